"""A cycle on the terminal: what its bars show comes from the registry, stage by stage."""

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from infra.ports import Ports
from infra.registry import cycles, leases
from infra.registry.cycles import CycleState
from infra.registry.errors import NotFound
from tests.support.cycles import cycle_row, hold, make_cycle
from tests.support.home import make_ports
from trainer.watching import _bar, as_json, follow, is_final


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = make_ports(tmp_path / "home")
    yield made
    made.close()


def make_progress(**overrides: Any) -> dict[str, Any]:
    return {"stage": "reward", "step": 3, "total": 10, "eta_s": 42.4, "metrics": {"loss": 0.51234}, **overrides}


def report(ports: Ports, cycle_id: str, **overrides: Any) -> None:
    lease = hold(ports, cycle_id)
    with ports.database.transaction() as session:
        cycles.report_progress(session, lease, cycle_id, make_progress(**overrides))
        leases.release(session, lease)


def end(ports: Ports, cycle_id: str, reason: str | None = None) -> None:
    lease = hold(ports, cycle_id)
    with ports.database.transaction() as session:
        cycles.advance(session, lease, cycle_id, CycleState.FAILED, reason=reason)
        leases.release(session, lease)


def test_the_bar_shows_steps_time_left_and_metrics(ports: Ports) -> None:
    cycle_id = make_cycle(ports, state=CycleState.REWARD)
    report(ports, cycle_id)
    assert _bar(cycle_row(ports, cycle_id)) == {"completed": 3, "total": 10, "left": "42 s left loss=0.512"}


def test_before_the_first_step_no_time_is_promised(ports: Ports) -> None:
    cycle_id = make_cycle(ports, state=CycleState.REWARD)
    report(ports, cycle_id, step=0, eta_s=None, metrics={})
    assert _bar(cycle_row(ports, cycle_id))["left"] == ""


def test_the_last_stage_s_progress_is_not_shown_as_this_one_s(ports: Ports) -> None:
    cycle_id = make_cycle(ports, state=CycleState.POLICY)
    report(ports, cycle_id, stage="reward")
    assert _bar(cycle_row(ports, cycle_id)) == {}


def test_a_cycle_as_json_is_plain_values(ports: Ports) -> None:
    found = as_json(cycle_row(ports, make_cycle(ports, policy_steps=2)))
    assert found["settings"] == {"policy_steps": 2}
    assert isinstance(found["created_at"], str)


def test_following_shows_every_stage_and_returns_how_it_ended(ports: Ports) -> None:
    cycle_id, shown = make_cycle(ports, state=CycleState.REWARD), io.StringIO()
    report(ports, cycle_id)
    thread = threading.Timer(0.3, end, (ports, cycle_id, "[red]too few pairs"))
    thread.start()
    row = follow(ports.database, cycle_id, "default", Console(file=shown, width=200), poll_s=0.02)
    thread.join()
    assert is_final(row)
    assert "cycle 1 reward" in shown.getvalue()
    assert "cycle 1: failed ([red]too few pairs)" in shown.getvalue()


def test_a_cycle_that_has_ended_is_shown_at_once(ports: Ports) -> None:
    cycle_id, shown = make_cycle(ports), io.StringIO()
    end(ports, cycle_id)
    follow(ports.database, cycle_id, "default", Console(file=shown, width=200), poll_s=60)
    assert shown.getvalue().strip().endswith("cycle 1: failed")


def test_a_cycle_that_does_not_exist_is_not_waited_for(ports: Ports) -> None:
    with pytest.raises(NotFound):
        follow(ports.database, "99", "default", Console(file=io.StringIO()))
