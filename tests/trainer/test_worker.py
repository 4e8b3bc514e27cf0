"""The worker process with its schedule, broker and children, as the supervisor starts and stops it."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis as Client

from infra.ports import Ports
from infra.processes import group_members, kill
from infra.registry import cycles, leases
from infra.registry.cycles import CycleState
from infra.services.postgres import Postgres
from infra.services.redis import Redis
from tests.support.cycles import cycle_row, hold, make_cycle
from tests.support.datasets import make_snapshotted_cycle
from tests.support.home import make_ports
from tests.support.servers import emptied_database
from tests.support.tiny_training import tiny_environment

pytestmark = [pytest.mark.training, pytest.mark.timeout(600)]  # each process loads torch, on a machine that may be busy


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


def wait_until(ports: Ports, condition: Callable[[], Any], timeout_s: float = 240) -> Any:
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


def test_a_worker_killed_in_the_middle_is_replaced_and_the_cycle_ends(
    ports: Ports, environment: dict[str, str]
) -> None:
    cycle_id = make_snapshotted_cycle(ports, policy_steps=15)
    with running_worker(ports, environment) as worker:
        wait_until(ports, lambda: state(ports, cycle_id) == CycleState.POLICY)
        child = children(worker)[0]
        worker.kill()
        worker.wait()
    wait_until(ports, lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, timeout_s=20)
    sft = (ports.home / "cycles" / cycle_id / "sft" / "_DONE").stat().st_mtime
    (ports.home / "run" / "trainer.json").unlink()
    with running_worker(ports, environment) as second:
        with urllib.request.urlopen(f"{address(ports)}/readyz") as answer:
            assert answer.status == 200
        wait_until(ports, lambda: state(ports, cycle_id) == CycleState.GATING)
        second.send_signal(signal.SIGTERM)
        assert second.wait(20) == 0
    assert (ports.home / "cycles" / cycle_id / "sft" / "_DONE").stat().st_mtime == sft


def test_a_running_training_is_cancelled_in_its_stage_and_ended_with_its_worker(
    ports: Ports, environment: dict[str, str]
) -> None:
    cancelled = make_snapshotted_cycle(ports, policy_steps=500)
    with running_worker(ports, environment) as worker:
        wait_until(ports, lambda: state(ports, cancelled) == CycleState.POLICY)
        child = children(worker)[0]
        cancel(ports, cancelled)
        wait_until(ports, lambda: state(ports, cancelled) == CycleState.CANCELLED)
        assert not child.is_running()
        stopped = follow_up(ports, cancelled)
        wait_until(ports, lambda: state(ports, stopped) == CycleState.POLICY)
        child = children(worker)[0]
        worker.terminate()
        assert worker.wait(20) == 0
    assert not child.is_running()
    assert state(ports, stopped) == CycleState.POLICY


def test_a_cycle_ends_though_redis_forgot_it_and_was_killed(
    tmp_path: Path, environment: dict[str, str], postgres: Postgres, redis: Redis
) -> None:
    """On the full profile: the registry is the truth, the broker wakes somebody up."""
    environment |= {
        "THUMBWHEEL_INFRA__PROFILE": "full",
        "THUMBWHEEL_INFRA__DATABASE_URL": emptied_database(postgres),
        "THUMBWHEEL_INFRA__REDIS_URL": redis.url,
        "THUMBWHEEL_INFRA__KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "THUMBWHEEL_INFRA__SECRET": "0" * 64,
    }
    with closing(make_ports(tmp_path / "home", **environment)) as ports, running_worker(ports, environment):
        address(ports)
        cycle_id = make_snapshotted_cycle(ports, policy_steps=2)
        with Client.from_url(redis.url) as client:
            client.flushall()
        assert redis.record is not None
        kill(group_members(redis.record))
        redis.start()
        wait_until(ports, lambda: state(ports, cycle_id) == CycleState.GATING)


def cancel(ports: Ports, cycle_id: str) -> None:
    with ports.database.transaction() as session:
        cycles.request_cancel(session, cycle_id, tenant="default", actor="operator")


def follow_up(ports: Ports, before: str) -> str:
    """A second cycle on the first one's dataset."""
    dataset_id = cycle_row(ports, before).dataset_id
    cycle_id = make_cycle(ports, state=CycleState.SNAPSHOTTING, policy_steps=500)
    lease = hold(ports, cycle_id, "feedback")
    with ports.database.transaction() as session:
        cycles.advance(session, lease, cycle_id, CycleState.SFT, dataset_id=dataset_id)
        leases.release(session, lease)
    return cycle_id
