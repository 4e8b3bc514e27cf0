"""A real supervisor over fake processes, in a process of its own, so that a test can kill it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from infra.child import Backoff
from infra.programs import Program, StopStage
from infra.stack import ProcessState, ProcessStatus, StackState, StackStatus, current_status
from infra.supervisor import Supervisor, only_one, sweep

FAKE = Path(__file__).with_name("fake_process.py")


def make_program(name: str, *flags: str, stage: StopStage = StopStage.WORKERS, drain_s: float = 5) -> Program:
    argv = (sys.executable, str(FAKE), "--name", name, *flags)
    return Program(name, argv, stage, drain_s=drain_s, usual_start_s=1)


@dataclass(frozen=True, slots=True)
class FakeStack:
    home: Path
    process: "subprocess.Popen[bytes]"

    def status(self) -> StackStatus:
        return current_status(self.home)

    def process_status(self, name: str) -> ProcessStatus:
        return self.status().processes[name]

    def child_of(self, name: str) -> int:
        return int((self.home / "run" / f"{name}.child").read_text())

    def restarted(self, name: str, times: int = 1) -> bool:
        found = self.process_status(name)
        return found.restarts >= times and found.state is ProcessState.READY

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextmanager
def supervised(home: Path, *programs: Program, start_timeout_s: float = 20) -> Iterator[FakeStack]:
    """The stack once it is ready or has failed; gone afterwards, come what may."""
    wish = json.dumps([[p.name, list(p.argv), int(p.stage), p.drain_s] for p in programs])
    process = subprocess.Popen([sys.executable, __file__, str(home), str(start_timeout_s), wish])
    try:
        wait_for(lambda: settled(home, process.pid) or process.poll() is not None)
        yield FakeStack(home, process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        sweep(home, grace_s=0.2)


def settled(home: Path, pid: int) -> bool:
    status = current_status(home)
    return status.pid == pid and status.state in (StackState.READY, StackState.FAILED)


def wait_for(condition: Callable[[], object], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass in time"
        time.sleep(0.02)


def main() -> int:
    home, start_timeout_s = Path(sys.argv[1]), float(sys.argv[2])
    programs = [Program(n, tuple(argv), StopStage(s), drain_s=d) for n, argv, s, d in json.loads(sys.argv[3])]
    with only_one(home):
        supervisor = Supervisor(
            home, programs, os.environ, start_timeout_s=start_timeout_s, backoff=Backoff(first_s=0.05)
        )
        signal.signal(signal.SIGTERM, lambda *_: supervisor.ask_to_stop())
        return supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
