"""Where on the log a snapshot ends, and the wait until everything before it is in the database."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from feedback.datasets.standing import Cut
from feedback.errors import CutNotReached, Stopping
from feedback.intake.consumer import GROUP
from feedback.intake.decode import TOPICS
from infra.eventlog.base import EventLog

LOOK_S = 0.05  # between two looks at the group's commits


@dataclass(frozen=True, slots=True)
class Cutter:
    """Takes cuts of the log. `spool_s` is how long a vote's answer may take from a gateway's spool to the log."""

    eventlog: EventLog
    stop: threading.Event
    timeout_s: float
    spool_s: float = 2.0

    def settled(self, waiting: Callable[[], int]) -> Cut:
        """A cut behind everything acknowledged by now, and behind the answers that votes still wait for, if they come.

        `waiting` counts votes that arrived lately and have no answer. Raises CutNotReached or Stopping.
        """
        deadline = time.monotonic() + self.spool_s
        cut = self.reached()
        while waiting() and time.monotonic() < deadline:
            self._pause()
            cut = self.reached()
        return cut

    def reached(self) -> Cut:
        """The log's end as it is now, once the group has stored everything before it."""
        cut, deadline = self.eventlog.end_offsets(TOPICS), time.monotonic() + self.timeout_s
        while missing := self._missing(cut):
            if time.monotonic() > deadline:
                raise CutNotReached(
                    f"{missing} events before the snapshot are not stored yet: is the consumer running?"
                )
            self._pause()
        return cut

    def _missing(self, cut: Cut) -> int:
        committed = self.eventlog.committed(GROUP, TOPICS)
        return sum(max(0, end - committed[place]) for place, end in cut.items())

    def _pause(self) -> None:
        if self.stop.wait(LOOK_S):
            raise Stopping("asked to end while waiting for the cut")
