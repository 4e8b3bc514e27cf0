"""The worker process with its schedule, broker and children, as the supervisor starts and stops it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.ports import Ports
from infra.registry.cycles import CycleState
from tests.support.cycles import cycle_row
from tests.support.datasets import make_snapshotted_cycle
from tests.support.home import make_ports
from tests.support.tiny_training import tiny_environment

pytestmark = pytest.mark.training


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**tiny_environment(tmp_path), "THUMBWHEEL_TRAINER__SWEEP_S": "0.3", "THUMBWHEEL_INFRA__LEASE_TTL_S": "3"}


@pytest.fixture
def ports(tmp_path: Path, environment: dict[str, str]) -> Iterator[Ports]:
    made = make_ports(tmp_path / "home", **environment)
    yield made
    made.close()


@contextmanager
def running_worker(ports: Ports, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    environ = {**os.environ, **environment, "THUMBWHEEL_HOME": str(ports.home)}
    log = (ports.home / "worker.log").open("ab")
    process = subprocess.Popen([sys.executable, "-m", "trainer.worker"], env=environ, stderr=log, stdout=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(20)
        log.close()


def wait_until(ports: Ports, condition: Callable[[], Any], timeout_s: float = 90) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, (ports.home / "worker.log").read_text()[-3000:]
        time.sleep(0.1)
    return found


def address(ports: Ports) -> str:
    path = ports.home / "run" / "trainer.json"
    wait_until(ports, path.exists)
    return str(json.loads(path.read_text())["address"])


def state(ports: Ports, cycle_id: str) -> str:
    return cycle_row(ports, cycle_id).state


def children(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [child for child in psutil.Process(process.pid).children() if "trainer.run" in child.cmdline()]


def test_the_worker_finds_a_cycle_by_itself_and_brings_it_to_its_gates(
    ports: Ports, environment: dict[str, str]
) -> None:
    cycle_id = make_snapshotted_cycle(ports)
    with running_worker(ports, environment) as worker:
        with urllib.request.urlopen(f"{address(ports)}/readyz") as answer:
            assert answer.status == 200
        wait_until(ports, lambda: state(ports, cycle_id) == CycleState.GATING)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0


def test_a_worker_killed_in_the_middle_is_replaced_and_the_cycle_ends(
    ports: Ports, environment: dict[str, str]
) -> None:
    cycle_id = make_snapshotted_cycle(ports, policy_steps=6)
    with running_worker(ports, environment) as worker:
        wait_until(ports, lambda: state(ports, cycle_id) == CycleState.POLICY)
        child = children(worker)[0]
        worker.kill()
        worker.wait()
    wait_until(ports, lambda: not psutil.pid_exists(child.pid) or child.status() == psutil.STATUS_ZOMBIE, timeout_s=5)
    sft = (ports.home / "cycles" / cycle_id / "sft" / "_DONE").stat().st_mtime
    with running_worker(ports, environment):
        wait_until(ports, lambda: state(ports, cycle_id) == CycleState.GATING)
    assert (ports.home / "cycles" / cycle_id / "sft" / "_DONE").stat().st_mtime == sft


def test_a_worker_told_to_stop_ends_its_child_and_exits_cleanly(ports: Ports, environment: dict[str, str]) -> None:
    cycle_id = make_snapshotted_cycle(ports, policy_steps=500)
    with running_worker(ports, environment) as worker:
        wait_until(ports, lambda: state(ports, cycle_id) == CycleState.POLICY)
        child, asked = children(worker)[0], time.monotonic()
        worker.terminate()
        assert worker.wait(20) == 0
    assert time.monotonic() - asked < 10
    assert not psutil.pid_exists(child.pid)
    assert state(ports, cycle_id) == CycleState.POLICY
