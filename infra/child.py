"""One supervised process: started in a group of its own, asked whether it is ready, started again after a back-off."""

import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from infra.processes import ProcessRecord, announced, group_members, kill, record_of, run_file
from infra.programs import Program
from infra.stack import ProcessState, ProcessStatus

log = structlog.get_logger()

PROBE_TIMEOUT_S = 1.0
LOG_LIMIT_BYTES = 50 * 1024 * 1024
PR_SET_PDEATHSIG = 1  # prctl(2)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after the n-th death in a row; `stable_s` of being ready start the count again: who dies of
    itself does so within seconds, and who was killed from outside now and then is wanted back at once."""

    first_s: float = 0.25
    most_s: float = 30
    stable_s: float = 20

    def delay(self, deaths: int) -> float:
        return float(min(self.most_s, self.first_s * 2 ** (deaths - 1)))


class Child:
    """Not thread-safe: the kernel tells a child that its parent died when the *thread* that started it ends."""

    def __init__(
        self,
        program: Program,
        home: Path,
        environ: Mapping[str, str],
        *,
        backoff: Backoff,
        usual_start_s: float | None = None,
    ) -> None:
        self.program, self._home, self._environ, self._backoff = program, home, dict(environ), backoff
        self.usual_start_s = usual_start_s or program.usual_start_s
        self.deaths = self.restarts = 0
        self.last_code = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._record = ProcessRecord(0, 0.0)
        self._due = 0.0
        self._enter(ProcessState.STOPPED)

    @property
    def name(self) -> str:
        return self.program.name

    @property
    def log_file(self) -> Path:
        return self._home / "logs" / f"{self.name}.log"

    def status(self) -> ProcessStatus:
        record = self._record
        return ProcessStatus(
            self.name, self.state, record.pid, record.started, record.address, self.program.ready_path,
            self.restarts, self.since, self.usual_start_s,
        )  # fmt: skip

    def start(self) -> None:
        run_file(self._home, self.name).unlink(missing_ok=True)
        environ = {**self._environ, **self.program.environment}
        self._process = spawn(self.program.argv, environ, self.log_file)
        self._record = record_of(self._process.pid)
        self._enter(ProcessState.STARTING)

    def look(self) -> None:
        """One step of supervision: never waits for longer than one probe."""
        if self.state is ProcessState.WAITING:
            if time.monotonic() >= self._due:
                self.restarts += 1
                self.start()
        elif self.has_ended():
            self._bury()
        elif self.state is ProcessState.STARTING:
            self._check_ready()
        elif time.time() - self.since > self._backoff.stable_s:
            self.deaths = 0

    def has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def ask_to_stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def finish(self) -> None:
        """Kills what is left of the group and forgets the process."""
        if self._process is not None:
            kill(group_members(self._record))
            self._process.wait()
        run_file(self._home, self.name).unlink(missing_ok=True)
        self._process = None
        self._enter(ProcessState.STOPPED)

    def last_line(self) -> str:
        """The last thing it wrote: what it died of, most likely."""
        lines = tail(self.log_file, 20)
        return next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")

    def _check_ready(self) -> None:
        record = announced(self._home, self.name)
        if record is None or record.pid != self._record.pid:
            return
        self._record = record
        if answers(record.address + self.program.ready_path):
            self.usual_start_s = round(time.time() - self.since, 1)
            self._enter(ProcessState.READY)

    def _bury(self) -> None:
        """The leader is dead: nothing of its group may go on without it (vLLM's engine core is such a child)."""
        assert self._process is not None
        self.last_code = self._process.returncode
        self.deaths += 1
        kill(group_members(self._record))
        delay = self._backoff.delay(self.deaths)
        self._due = time.monotonic() + delay
        log.warning("process_died", name=self.name, pid=self._record.pid, code=self.last_code, restart_in_s=delay)
        self._enter(ProcessState.WAITING)

    def _enter(self, state: ProcessState) -> None:
        self.state, self.since = state, time.time()


def spawn(argv: tuple[str, ...], environ: Mapping[str, str], log_file: Path) -> subprocess.Popen[bytes]:
    """A process in a session of its own, writing to `log_file`, that is told to end when this one dies."""
    log_file.parent.mkdir(parents=True, exist_ok=True)
    if log_file.is_file() and log_file.stat().st_size > LOG_LIMIT_BYTES:
        log_file.replace(log_file.with_suffix(".log.1"))
    with log_file.open("ab") as output:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(environ),
            start_new_session=True,
            preexec_fn=ends_with_parent(),  # safe: the supervisor has one thread
        )


def answers(url: str) -> bool:
    """Whether a GET is answered with 2xx in time."""
    try:
        with urllib.request.urlopen(url, timeout=PROBE_TIMEOUT_S) as response:
            return bool(200 <= response.status < 300)
    except (urllib.error.URLError, OSError):
        return False


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a file, read from its end; none where there is no file."""
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 400 * lines - 4096))
        return file.read().decode(errors="replace").splitlines()[-lines:]


def ends_with_parent(
    number: signal.Signals = signal.SIGTERM, *, parent: int | None = None
) -> Callable[[], None] | None:
    """Linux sends a process `number` when its parent is gone, even by SIGKILL; elsewhere the next `up` or `down` clears
    up.

    What is returned is to be called in the child; `parent` is this process where nobody else is named.
    """
    if sys.platform != "linux":
        return None
    prctl, parent = ctypes.CDLL(None, use_errno=True).prctl, parent or os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:  # it died before we asked
            os.kill(os.getpid(), number)

    return ask
