"""Starts the processes of one stack, restarts what dies, and stops all of them in order."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from infra.child import Backoff, Child
from infra.processes import STACK_VARIABLE, announce, end, group_members, marked, read_json_file, record_of, write_json
from infra.programs import Program, StopStage
from infra.settings import HOME_VARIABLE
from infra.stack import ProcessState, StackState, StackStatus, last_status, records, write_status

__all__ = ["AlreadyRunning", "Supervisor", "announce", "only_one", "sweep"]

log = structlog.get_logger()

POLL_S = 0.1
MOST_EARLY_DEATHS = 4  # before the stack was ever ready; later it is tried for ever
BAD_SETTINGS = 2  # what a process ends with that no restart can help


class AlreadyRunning(RuntimeError):
    """Another supervisor holds this state directory."""


class Supervisor:
    """Runs in the main thread, which must not end before it: children are told when it does."""

    def __init__(
        self,
        home: Path,
        programs: Sequence[Program],
        environ: Mapping[str, str],
        *,
        start_timeout_s: float = 300,
        backoff: Backoff | None = None,
        observer: Callable[[StackStatus], None] = lambda _status: None,
    ) -> None:
        self._home, self._observer, self._start_timeout_s = home, observer, start_timeout_s
        self._record = record_of(os.getpid())
        self._state, self._problem, self._code = StackState.STARTING, "", 0
        self._wish_to_stop = 0
        self._written: StackStatus | None = None
        usual = read_json_file(self._usual_file)
        environ = {**environ, HOME_VARIABLE: str(home), STACK_VARIABLE: str(home), "PYTHONSAFEPATH": "1"}
        self._children = [
            Child(program, home, environ, backoff=backoff or Backoff(), usual_start_s=usual.get(program.name))
            for program in programs
        ]

    def status(self) -> StackStatus:
        processes = {child.name: child.status() for child in self._children}
        return StackStatus(
            self._state, self._record.pid, self._record.started, processes, self._problem, self._code
        )  # fmt: skip

    def ask_to_stop(self) -> None:
        """From a signal handler. The second wish kills what the first one only asked."""
        self._wish_to_stop += 1

    def run(self) -> int:
        """Until asked to stop, or until the first start has failed; returns the exit code."""
        began = time.monotonic()
        for child in self._children:
            child.start()
        while not self._wish_to_stop and self._state is not StackState.FAILED:
            for child in self._children:
                child.look()
            if self._state is StackState.STARTING:
                self._settle(time.monotonic() - began)
            self._publish()
            time.sleep(POLL_S)
        self._stop()
        return self._code

    @property
    def _usual_file(self) -> Path:
        return self._home / "run" / "start_seconds.json"

    def _settle(self, waited_s: float) -> None:
        """Whether the first start is over, well or badly."""
        if all(child.state is ProcessState.READY for child in self._children):
            self._state = StackState.READY
            write_json(self._usual_file, {child.name: child.usual_start_s for child in self._children})
        elif hopeless := next((child for child in self._children if _is_hopeless(child)), None):
            code = BAD_SETTINGS if hopeless.last_code == BAD_SETTINGS else 1
            self._fail(f"{hopeless.name} ended with {hopeless.last_code}: {hopeless.last_line()}", code)
        elif waited_s > self._start_timeout_s:
            late = ", ".join(child.name for child in self._children if child.state is not ProcessState.READY)
            self._fail(f"not ready after {waited_s:.0f} s: {late} (see `thumbwheel logs`)", 1)

    def _fail(self, problem: str, code: int) -> None:
        self._state, self._problem, self._code = StackState.FAILED, problem, code

    def _publish(self) -> None:
        status = self.status()
        if status != self._written:
            write_status(self._home, status)
            self._written = status
        self._observer(status)

    def _stop(self) -> None:
        failed = self._state is StackState.FAILED
        self._state = StackState.FAILED if failed else StackState.STOPPING
        self._publish()
        for stage in StopStage:
            self._stop_stage([child for child in self._children if child.program.stage is stage])
        for left in marked(self._home):
            log.warning("orphan_killed", pid=left.pid)
        end(marked(self._home), grace_s=0)
        self._state = StackState.FAILED if failed else StackState.STOPPED
        self._publish()

    def _stop_stage(self, children: Sequence[Child]) -> None:
        """All of one stage at the same time, each for as long as it may drain."""
        for child in children:
            child.ask_to_stop()
        deadline = time.monotonic() + max((child.program.drain_s for child in children), default=0)
        while not all(child.has_ended() for child in children):
            if time.monotonic() > deadline or self._wish_to_stop > 1:
                log.warning("drain_cut_short", names=[child.name for child in children if not child.has_ended()])
                break
            time.sleep(POLL_S / 2)
        for child in children:
            child.finish()


def _is_hopeless(child: Child) -> bool:
    return child.deaths > 0 and (child.last_code == BAD_SETTINGS or child.deaths >= MOST_EARLY_DEATHS)


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Holds the state directory; raises AlreadyRunning. The kernel lets go of it when the process ends."""
    path = home / "run" / "supervisor.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"Thumbwheel runs already in {home}: see `thumbwheel status`") from None
        yield


def sweep(home: Path, *, grace_s: float = 10) -> int:
    """Ends what an earlier supervisor left behind when it was killed; returns how many processes that were."""
    left = {p.pid: p for record in records(last_status(home)) for p in group_members(record)}
    left |= {process.pid: process for process in marked(home)}
    end(left.values(), grace_s=grace_s)
    return len(left)
