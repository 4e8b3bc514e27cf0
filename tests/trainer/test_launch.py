"""The worker's side of a training: heartbeat, cancel, crash, stop. The children are real processes with fake stages."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.database.tables import LeaseRow
from infra.ports import Ports
from infra.registry import cycles, leases
from infra.registry.cycles import CycleState
from infra.registry.leases import Lease
from tests.support.cycles import cycle_row, hold, make_cycle
from tests.support.fake_training import VARIABLE, fake_command
from tests.support.home import make_ports
from tests.support.launching import children_of, in_thread, plan, started, wait_until
from trainer.cycle import FOLLOWING
from trainer.launch import MOST_CRASHES, Launcher, Move, beat_s


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = make_ports(tmp_path / "home")
    yield made
    made.close()


def launcher(ports: Ports, stop: threading.Event | None = None) -> Launcher:
    return Launcher(ports, stop or threading.Event(), fake_command)


def test_a_child_takes_the_cycle_to_its_gates(ports: Ports) -> None:
    cycle_id = make_cycle(ports)
    assert launcher(ports).run(cycle_id) == CycleState.GATING
    row = cycle_row(ports, cycle_id)
    assert row.progress["stage"] == "publishing"
    assert row.progress["step"] == row.progress["total"] == 2
    assert row.progress["metrics"] == {"loss": 0.5}


def test_how_a_turn_ended_is_counted(ports: Ports) -> None:
    worker = launcher(ports)
    worker.run(make_cycle(ports))
    assert worker.metrics.runs.labels("gating")._value.get() == 1
    assert worker.metrics.training._value.get() == 0


def test_a_cycle_that_somebody_holds_is_left_alone(ports: Ports) -> None:
    cycle_id = make_cycle(ports)
    hold(ports, cycle_id)
    assert launcher(ports).run(cycle_id) == "held"
    assert started(ports, cycle_id) == []


def test_a_failing_stage_fails_the_cycle_with_its_reason(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(monkeypatch, fail="reward")
    cycle_id = make_cycle(ports)
    assert launcher(ports).run(cycle_id) == CycleState.FAILED
    assert cycle_row(ports, cycle_id).reason == "only 3 pairs, 50 are needed"
    assert "only 3 pairs" in (ports.home / "logs" / f"cycle-{cycle_id}.log").read_text()


def test_a_cancel_ends_a_child_that_hangs(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(monkeypatch, hang="policy")
    cycle_id = make_cycle(ports)
    thread, outcome = in_thread(lambda: launcher(ports).run(cycle_id))
    wait_until(lambda: "policy" in started(ports, cycle_id))
    with ports.database.transaction() as session:
        cycles.request_cancel(session, cycle_id, tenant="default", actor="operator")
    thread.join(20)
    assert outcome == [CycleState.CANCELLED]
    assert children_of(os.getpid(), cycle_id) == []


class Counted(Launcher):
    """Counts how often it looks whether a cycle is still wanted."""

    looks = 0

    def _unwanted(self, cycle_id: str, lease: Lease) -> Move | None:
        Counted.looks += 1
        return super()._unwanted(cycle_id, lease)


@pytest.mark.parametrize("stage", list(FOLLOWING))
def test_a_cancel_ends_a_child_in_the_middle_of_a_step_at_the_next_look(
    ports: Ports, monkeypatch: pytest.MonkeyPatch, stage: CycleState
) -> None:
    """The child neither reports nor takes a signal that can be refused."""
    plan(monkeypatch, stuck=stage)
    cycle_id = make_cycle(ports, state=stage)
    worker = Counted(ports, threading.Event(), fake_command)
    thread, outcome = in_thread(lambda: worker.run(cycle_id))
    wait_until(lambda: stage in started(ports, cycle_id))
    [child] = children_of(os.getpid(), cycle_id)
    with ports.database.transaction() as session:
        cycles.request_cancel(session, cycle_id, tenant="default", actor="operator")
        looks = Counted.looks  # none can be between this and the commit: both write
    wait_until(lambda: cycle_row(ports, cycle_id).state == CycleState.CANCELLED)
    thread.join()
    assert outcome == [CycleState.CANCELLED]
    assert not child.is_running()
    assert Counted.looks - looks <= 2


@pytest.mark.parametrize("ttl_s", [0.1, 1.0, 10.0, 3600.0])
def test_a_child_is_looked_at_every_second_and_thrice_in_the_life_of_its_lease(ttl_s: float) -> None:
    assert beat_s(ttl_s) <= 1.0
    assert 3 * beat_s(ttl_s) < ttl_s


def test_a_cycle_cancelled_before_it_began_starts_no_child(ports: Ports) -> None:
    cycle_id = make_cycle(ports)
    with ports.database.transaction() as session:
        cycles.request_cancel(session, cycle_id, tenant="default", actor="operator")
    assert launcher(ports).run(cycle_id) == CycleState.CANCELLED
    assert started(ports, cycle_id) == []


def test_a_killed_child_is_started_again_from_the_stage_it_died_in(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(monkeypatch, hang="policy")
    cycle_id = make_cycle(ports)
    thread, outcome = in_thread(lambda: launcher(ports).run(cycle_id))
    wait_until(lambda: "policy" in started(ports, cycle_id))
    children_of(os.getpid(), cycle_id)[0].kill()
    thread.join(10)
    assert outcome == ["crashed"]
    plan(monkeypatch)
    assert launcher(ports).run(cycle_id) == CycleState.GATING
    assert started(ports, cycle_id) == ["sft", "reward", "policy", "policy", "evaluating", "publishing"]


def test_a_cycle_that_keeps_crashing_fails_in_the_end(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(monkeypatch, away="sft")
    cycle_id = make_cycle(ports)
    outcomes = [launcher(ports).run(cycle_id) for _ in range(MOST_CRASHES)]
    assert outcomes == ["crashed"] * (MOST_CRASHES - 1) + [CycleState.FAILED]
    assert "the engine is away" in str(cycle_row(ports, cycle_id).reason)


def test_a_worker_that_stops_ends_its_child_and_lets_the_next_one_in(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(monkeypatch, hang="reward")
    cycle_id, stop = make_cycle(ports), threading.Event()
    thread, outcome = in_thread(lambda: launcher(ports, stop).run(cycle_id))
    wait_until(lambda: "reward" in started(ports, cycle_id))
    stop.set()
    thread.join(10)
    assert outcome == ["stopped"]
    assert children_of(os.getpid(), cycle_id) == []
    plan(monkeypatch)
    assert launcher(ports).run(cycle_id) == CycleState.GATING


def test_a_worker_that_lost_its_lease_ends_its_child_and_changes_nothing(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(monkeypatch, hang="reward")
    cycle_id = make_cycle(ports)
    thread, outcome = in_thread(lambda: launcher(ports).run(cycle_id))
    wait_until(lambda: "reward" in started(ports, cycle_id))
    take_over(ports, cycle_id)
    thread.join(10)
    assert outcome == ["lost"]
    assert children_of(os.getpid(), cycle_id) == []
    assert cycle_row(ports, cycle_id).state == CycleState.REWARD


def take_over(ports: Ports, cycle_id: str) -> None:
    """Another worker takes the lease, as it may once the heartbeat has stood still."""
    with ports.database.transaction() as session:
        row = session.get(LeaseRow, leases.cycle_lease(cycle_id))
        assert row is not None
        row.holder, row.epoch = "worker-2", row.epoch + 1


def test_only_one_training_runs_at_a_time(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(monkeypatch, hang="sft")
    first, second = make_cycle(ports), make_cycle(ports, alias="other")
    stop = threading.Event()
    one = launcher(ports, stop)
    thread, _ = in_thread(lambda: one.run(first))
    wait_until(lambda: started(ports, first))
    assert one.run(second) == "busy"
    stop.set()
    thread.join(10)


def test_a_child_dies_with_the_worker_that_is_killed(ports: Ports) -> None:
    """The worker is a process of its own here, killed with -9; the child must not train on for nobody."""
    cycle_id = make_cycle(ports)
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(ports.home), cycle_id],
        env={**os.environ, VARIABLE: json.dumps({"hang": "sft"})},
    )
    wait_until(lambda: started(ports, cycle_id))
    child = children_of(worker.pid, cycle_id)[0]
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, timeout_s=5)


WORKER = """
import sys, threading
from pathlib import Path
from infra.ports import Ports
from infra.settings import load_settings
from tests.support.fake_training import fake_command
from trainer.launch import Launcher
Launcher(Ports(load_settings(Path(sys.argv[1]))), threading.Event(), fake_command).run(sys.argv[2])
"""
