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
from typing import Any

import openai

from infra.ports import Ports
from infra.settings import load_settings

START_TIMEOUT_S = 240


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

    def command(self, *words: str, timeout_s: float = START_TIMEOUT_S, check: bool = True) -> str:
        """Runs `thumbwheel WORDS` and returns what it printed."""
        done = self._run(words, timeout_s)
        assert not check or done.returncode == 0, f"thumbwheel {' '.join(words)}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def attempt(self, *words: str) -> tuple[int, str]:
        """The exit code of `thumbwheel WORDS`, and what it said on standard error."""
        done = self._run(words, START_TIMEOUT_S)
        return done.returncode, done.stderr

    def _run(self, words: tuple[str, ...], timeout_s: float) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "infra.cli", *words],
            env=os.environ | self.environ | {"THUMBWHEEL_HOME": str(self.home)},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def processes(self) -> dict[str, dict[str, Any]]:
        return dict(json.loads(self.command("status", "--json", check=False))["processes"])

    def kill(self, process: str) -> int:
        """`kill -9` of one process of the stack; returns the pid it had."""
        pid = int(self.processes()[process]["pid"])
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
