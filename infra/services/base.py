"""One server on a loopback port: prepared once, started, asked whether it answers, stopped."""

import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

from infra.child import ends_with_parent, tail
from infra.processes import ProcessRecord, group_members, is_alive, kill, read_json_file, record_of, write_json

HOST = "127.0.0.1"
START_TIMEOUT_S = 180.0  # a broker takes 4 s; a busy machine, a minute
STOP_TIMEOUT_S = 30.0
LOOK_S = 0.05


class ServiceError(RuntimeError):
    """A server is not installed or did not start. The message says what to do about it."""


class NotInstalled(ServiceError):
    """A server's programs are not on this machine."""

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} is not installed: run `make services`")


class Service(ABC):
    """Keeps everything in `directory`. With `bound` the server ends with the process that started it."""

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, directory: Path, port: int, *, bound: bool = False) -> None:
        self.directory, self.port, self._bound = directory.absolute(), port, bound
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Makes what the server needs on disk; changes nothing the second time."""

    @abstractmethod
    def argv(self) -> list[str]: ...

    @abstractmethod
    def check(self) -> str:
        """Its version; raises OSError or a client's own error while it does not answer."""

    def finish(self) -> None:  # noqa: B027 most have nothing left to do
        """What is left to do once it answers."""

    def user(self) -> str | None:
        """Who it runs as, where that is not who starts it."""
        return None

    @property
    def log_file(self) -> Path:
        return self.directory / "log"

    @property
    def record(self) -> ProcessRecord | None:
        """The running server; None where there is none."""
        found = read_json_file(self._record_file)
        record = ProcessRecord(int(found["pid"]), float(found["started"])) if found else None
        return record if record and is_alive(record) else None

    def start(self) -> None:
        """Returns when it answers; a server that runs already is left alone. Raises ServiceError."""
        if self.record is None:
            self.prepare()
            self.launch()
        self.wait()

    def stop(self) -> bool:
        """Asks it to end, and kills what is left in the end; returns whether it ran."""
        record = self.record
        if record is None:
            return False
        os.kill(record.pid, self.stop_signal)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while is_alive(record) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        kill(group_members(record))
        self._bury()
        self._record_file.unlink(missing_ok=True)
        return True

    def launch(self) -> None:
        """Where it is bound: to the thread that calls this, which the kernel watches."""
        self._bury()  # somebody else may have killed the last one
        with self.log_file.open("ab") as output:
            self._process = subprocess.Popen(
                self.argv(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.directory,
                start_new_session=True,
                user=self.user(),
                preexec_fn=ends_with_parent(self.stop_signal) if self._bound else None,
            )
        write_json(self._record_file, asdict(record_of(self._process.pid)))

    def wait(self) -> None:
        """Until it answers; raises ServiceError."""
        deadline, why = time.monotonic() + START_TIMEOUT_S, "it does not answer"
        while time.monotonic() < deadline:
            try:
                self.check()
            except Exception as error:  # noqa: BLE001 each client has errors of its own; the last one is told
                why = str(error) or type(error).__name__
            else:
                return self.finish()
            if self.record is None:
                self._bury()
                raise ServiceError(f"{self.name} ended at its start: {last_line(self.log_file)} (see {self.log_file})")
            time.sleep(LOOK_S)
        raise ServiceError(f"{self.name} did not answer on port {self.port} within {START_TIMEOUT_S:.0f} s: {why}")

    def _bury(self) -> None:
        """Waits for a server of ours that has ended, so that the kernel forgets it."""
        if self._process is not None:
            self._process.wait()
        self._process = None

    @property
    def _record_file(self) -> Path:
        return self.directory / "process.json"


def last_line(path: Path) -> str:
    return next((line.strip() for line in reversed(tail(path, 20)) if line.strip()), "it wrote nothing")


def run(argv: list[str], *, what: str, user: str | None = None, cwd: Path | None = None) -> None:
    """A command that prepares something; raises ServiceError with what it said."""
    done = subprocess.run(argv, capture_output=True, text=True, user=user, cwd=cwd, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise ServiceError(f"{what}: {said[-1] if said else f'exit code {done.returncode}'}")
