"""How a start looks while it is under way: one line that says who is ready and how long the rest may take."""

import sys
import time
from typing import TextIO

from infra.stack import ProcessState, ProcessStatus, StackState, StackStatus


class StartView:
    """On a terminal one line is rewritten in place; elsewhere a line is printed when somebody becomes ready."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._ready: set[str] | None = None

    def __call__(self, status: StackStatus) -> None:
        if status.state is not StackState.STARTING:
            return self.close()
        ready = {name for name, process in status.processes.items() if process.state is ProcessState.READY}
        if self._live:
            self._stream.write(f"\r\x1b[2K{line(status, time.time())}")
        elif ready != self._ready:
            self._stream.write(f"{line(status, time.time())}\n")
        self._ready = ready
        self._stream.flush()
        return None

    def close(self) -> None:
        """Clears the line, once."""
        if self._live and self._ready is not None:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()
        self._ready = None


def line(status: StackStatus, now: float) -> str:
    """`starting  gateway ready · replica-0 12 s · about 33 s left`."""
    parts = [_part(process, now) for process in status.processes.values()]
    return f"starting  {' · '.join(parts)} · about {eta_s(status, now):.0f} s left"


def eta_s(status: StackStatus, now: float) -> float:
    """What the slowest still needs, going by its last start; a late one is always said to need a little more."""
    waiting = [process for process in status.processes.values() if process.state is not ProcessState.READY]
    return max((max(1.0, process.usual_start_s - (now - process.since)) for process in waiting), default=0.0)


def _part(process: ProcessStatus, now: float) -> str:
    if process.state is ProcessState.STARTING:
        return f"{process.name} {now - process.since:.0f} s"
    return f"{process.name} {process.state}"
