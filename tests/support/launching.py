"""A worker's turn with a cycle, watched from outside: what its child was told to do, has begun, and left running."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from infra.ports import Ports
from tests.support.fake_training import VARIABLE
from trainer.workdir import work_dir


def plan(monkeypatch: pytest.MonkeyPatch, **wanted: str) -> None:
    monkeypatch.setenv(VARIABLE, json.dumps(wanted))


def wait_until(condition: Callable[[], Any], timeout_s: float = 20) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
    return found


def in_thread(run: Callable[[], str]) -> tuple[threading.Thread, list[str]]:
    outcome: list[str] = []
    thread = threading.Thread(target=lambda: outcome.append(run()))
    thread.start()
    return thread, outcome


def started(ports: Ports, cycle_id: str) -> list[str]:
    path = work_dir(ports.home, cycle_id).root / "started.txt"
    return path.read_text().split() if path.exists() else []


def children_of(pid: int, cycle_id: str) -> list[psutil.Process]:
    found = psutil.Process(pid).children(recursive=True)
    return [child for child in found if "fake_training" in " ".join(child.cmdline())]
