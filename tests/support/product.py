"""The whole product, started and stopped as its user would: by its command, in a state directory of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import openai
import psutil

from infra.child import answers
from infra.ports import Ports
from infra.settings import load_settings
from infra.stack import ProcessState, current_status, records
from infra.status import processes

START_TIMEOUT_S = 1000


class Done(NamedTuple):
    """How a command ended, what it printed, and what it said beside that (standard error)."""

    code: int
    printed: str
    said: str


@dataclass(frozen=True, slots=True)
class Product:
    """A running stack. `environ` is what it was started with beside this process' own environment."""

    home: Path
    port: int
    environ: dict[str, str]

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def keys(self) -> dict[str, str]:
        return dict(json.loads((self.home / "keys.json").read_text()))

    @property
    def environment(self) -> dict[str, str]:
        """What its commands are given."""
        return os.environ | self.environ | {"THUMBWHEEL_HOME": str(self.home)}

    @staticmethod
    def words(*words: str) -> list[str]:
        """The command line of `thumbwheel WORDS`."""
        return [sys.executable, "-m", "infra.cli", *words]

    def command(self, *words: str, timeout_s: float = START_TIMEOUT_S, check: bool = True) -> str:
        """Runs `thumbwheel WORDS` and returns what it printed."""
        done = self.run(*words, timeout_s=timeout_s)
        assert not check or done.code == 0, f"thumbwheel {' '.join(words)}: {done.printed}\n{done.said}"
        return done.printed

    def run(self, *words: str, timeout_s: float = START_TIMEOUT_S) -> "Done":
        """Runs `thumbwheel WORDS`, whatever comes of it."""
        done = subprocess.run(
            self.words(*words),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def processes(self) -> dict[str, dict[str, Any]]:
        """As `thumbwheel status --json` tells them, without the seconds that the command takes to start."""
        return processes(current_status(self.home))

    def is_ready(self, name: str) -> bool:
        """Whether that one of its processes says so now."""
        process = current_status(self.home).processes[name]
        return process.state is ProcessState.READY and answers(process.address + process.ready_path)

    def family(self) -> list[psutil.Process]:
        """Every process of the stack, and theirs, but for the supervisor."""
        own = [psutil.Process(record.pid) for record in records(current_status(self.home))]
        return own + [child for process in own for child in process.children(recursive=True)]

    def page(self, process: str, path: str) -> httpx.Response:
        """What a process says at `path` of the address it announced."""
        return httpx.get(current_status(self.home).processes[process].address + path, timeout=10)

    def kill(self, process: str) -> int:
        """`kill -9` of one process of the stack; returns the pid it had."""
        pid = current_status(self.home).processes[process].pid
        os.kill(pid, signal.SIGKILL)
        return pid

    def client(self, key: str = "client", **options: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"{self.address}/v1", api_key=self.keys[key], **options)

    def ports(self) -> Ports:
        return Ports(load_settings(self.home, self.environ))


@contextmanager
def running_product(home: Path, model: Path, **environ: str) -> Iterator[Product]:
    """Up when entered, down when left, whatever happened in between."""
    port = free_port()
    product = Product(home, port, {"THUMBWHEEL_GATEWAY__PORT": str(port), **environ})
    try:
        product.command("up", "--detach", "--model", str(model))
        yield product
    finally:
        product.command("down", check=False)


def running(processes: list[psutil.Process]) -> list[str]:
    """The command lines of those that still run; who only waits to be reaped does not."""
    return [" ".join(process.cmdline()) for process in processes if _runs(process)]


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
