"""Rollouts in steps under the real controller: tallies are written as feedback would, and traffic follows them."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from infra.base_model import base_revision
from infra.clock import now
from infra.contracts.rollouts import Inconclusive, Step, StepKind
from infra.database.tables import RolloutRow
from infra.ports import Ports
from infra.registry import audit, rollouts, tallies, wishes
from infra.registry.rollouts import RolloutState
from infra.registry.tallies import Tally, TallyArm
from infra.registry.wishes import Wish
from tests.support.adapters import make_adapter
from tests.support.control_engine import running_control_engine
from tests.support.controllers import (
    SMOKE,
    accept,
    adapter_state,
    bring_to_gates,
    champion,
    controlling,
    eventually,
    register_replica,
    rollout_state,
    routing,
)
from tests.support.home import make_ports
from tests.support.mirroring import JUDGE, put_judge
from tests.support.tiny_model import make_tiny_model

STEPS = (
    Step(kind=StepKind.SHADOW, share=0.5, min_answers=20),
    Step(share=0.2, min_votes=20),
    Step(share=0.5, min_votes=50, margin=0.3),
)
RATERS = 400
R = RolloutState


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@asynccontextmanager
async def serving(home: Path, model: Path, steps: Sequence[Step] = STEPS, **more: str) -> AsyncIterator[Ports]:
    """A fleet of one engine, with these steps."""
    settings = {
        "MODEL": str(model), "POLL_S": "0.02", "LOOK_S": "0.05",
        "ROLLOUT_STEPS": json.dumps([step.model_dump(mode="json") for step in steps]), **more,
    }  # fmt: skip
    ports = make_ports(home, **{f"THUMBWHEEL_SERVING__{name}": value for name, value in settings.items()})
    async with running_control_engine(key=ports.engine_key, knows=[SMOKE]) as engine:
        register_replica(ports, engine.address, base_revision(model))
        yield ports
    ports.close()


def start(ports: Ports, version: str) -> str:
    with ports.database.transaction() as session:
        wish = Wish(version, champion(ports), "ada", "it passed its gates")
        return wishes.start(session, wish, ports.settings.serving.rollout_steps).rollout_id


def row_of(ports: Ports, rollout_id: str) -> RolloutRow:
    with ports.database.reading() as session:
        return rollouts.get(session, rollout_id)


def at_step(ports: Ports, rollout_id: str, step: int) -> bool:
    row = row_of(ports, rollout_id)
    return row.state == R.RUNNING and row.step == step


def vote(ports: Ports, rollout_id: str, step: int, *, champion_ups: float, challenger_ups: float) -> None:
    """What feedback would have counted: raters of both arms, one vote each; in a shadow step answers alone."""
    plan = STEPS[step]
    arm = TallyArm.SHADOW if plan.kind is StepKind.SHADOW else TallyArm.CHALLENGER
    challengers = round(RATERS * plan.share)
    found = [
        *(make(rollout_id, step, arm, n, challenger_ups) for n in range(challengers)),
        *(make(rollout_id, step, TallyArm.CHAMPION, n, champion_ups) for n in range(challengers, RATERS)),
    ]
    with ports.database.transaction() as session:
        tallies.store(session, "default", found)


def make(rollout_id: str, step: int, arm: TallyArm, number: int, ups: float) -> Tally:
    """Every tenth of ten raters is of another opinion, evenly through time."""
    at = now() + timedelta(milliseconds=(number * 7919) % RATERS)
    votes = 0 if arm is TallyArm.SHADOW else 1
    liked = int(number % 10 < ups * 10)
    return Tally(
        rollout_id=rollout_id, step=step, arm=arm, unit=f"rater-{step}-{number}", share=STEPS[step].share, first_at=at,
        answers=1, rateable=1, tokens=20, seconds=1.0, votes=votes, ups=votes * liked,
        voted_at=at,
    )  # fmt: skip


async def test_a_good_version_goes_through_all_its_steps_to_everybody(tmp_path: Path, model: Path) -> None:
    async with serving(tmp_path / "home", model) as ports, controlling(ports):
        version = accept(ports, make_adapter(tmp_path / "made", model))
        rollout_id = start(ports, version)
        for step in range(len(STEPS)):
            await eventually(lambda at=step: at_step(ports, rollout_id, at), f"it came to step {step}")
            vote(ports, rollout_id, step, champion_ups=0.5, challenger_ups=0.7)
        await eventually(lambda: rollout_state(ports, rollout_id) == "done", "it answers everybody")
        assert (champion(ports), adapter_state(ports, version)) == (version, "champion")
        with ports.database.reading() as session:
            entries = audit.list_entries(session, "default", subject=version)
    noted = [entry for entry in reversed(entries) if entry.action == "rollout.step"]
    steps = [entry.after["step"] for entry in noted if entry.after["state"] == "running"]
    assert steps == [0, 1, 2]
    left = [(entry.before["step"], entry.before["votes"] > 0) for entry in noted if "votes" in entry.before]
    assert left == [(0, False), (1, True), (2, True)], "what each step had seen when it was left"


async def test_a_worse_version_loses_its_traffic_by_itself_and_is_marked(tmp_path: Path, model: Path) -> None:
    async with serving(tmp_path / "home", model) as ports, controlling(ports):
        version = accept(ports, make_adapter(tmp_path / "made", model))
        rollout_id = start(ports, version)
        await eventually(lambda: at_step(ports, rollout_id, 0), "it came to its shadow step")
        vote(ports, rollout_id, 0, champion_ups=0.5, challenger_ups=0.5)
        await eventually(lambda: at_step(ports, rollout_id, 1), "it came to its first canary")
        vote(ports, rollout_id, 1, champion_ups=0.9, challenger_ups=0.1)
        await eventually(lambda: rollout_state(ports, rollout_id) == "aborted", "it was aborted")
        table = routing(ports)
        assert table is not None
        assert (table.aliases["assistant"].champion, table.aliases["assistant"].challenger) == ("base", None)
        assert adapter_state(ports, version) == "rolled_back"
        row = row_of(ports, rollout_id)
    assert row.error is not None
    assert "vote_rate" in row.error
    assert row.look is not None
    assert row.look["verdict"] == "fail"


def judge(ports: Ports, rollout_id: str, *, judged: int, wins: float) -> None:
    """What feedback would have counted of a shadow step whose every answer may be judged, ten of each rater."""
    found = [
        Tally(
            rollout_id=rollout_id, step=0, arm=TallyArm.SHADOW, unit=f"rater-{number}", share=0.5,
            first_at=now() + timedelta(milliseconds=number), answers=10, tokens=200, seconds=10.0,
            judgeable=10, judged=judged, judge_wins=wins,
        )
        for number in range(60)
    ]  # fmt: skip
    with ports.database.transaction() as session:
        tallies.store(session, "default", found)


async def test_a_shadow_step_goes_on_only_when_its_answers_are_judged(tmp_path: Path, model: Path) -> None:
    async with serving(tmp_path / "home", model) as ports, controlling(ports):
        made = make_adapter(tmp_path / "made", model, settings={"judge_share": 0.3})
        put_judge(ports.database, at=now(), base_revision=base_revision(model))
        rollout_id = start(ports, accept(ports, made))
        await eventually(lambda: at_step(ports, rollout_id, 0), "it came to its shadow step")
        judge(ports, rollout_id, judged=0, wins=0)
        await eventually(lambda: _told(ports, rollout_id).startswith("shadow_judge: 0 of 20"), "it waits")
        assert at_step(ports, rollout_id, 0)
        judge(ports, rollout_id, judged=1, wins=0.5)
        await eventually(lambda: at_step(ports, rollout_id, 1), "it came to its first canary")


async def test_a_version_that_the_judge_dislikes_is_taken_back_before_anybody_met_it(
    tmp_path: Path, model: Path
) -> None:
    async with serving(tmp_path / "home", model) as ports, controlling(ports):
        made = make_adapter(tmp_path / "made", model, settings={"judge_share": 0.3})
        put_judge(ports.database, at=now(), base_revision=base_revision(model))
        rollout_id = start(ports, accept(ports, made))
        await eventually(lambda: at_step(ports, rollout_id, 0), "it came to its shadow step")
        judge(ports, rollout_id, judged=10, wins=1)
        await eventually(lambda: rollout_state(ports, rollout_id) == "aborted", "it was aborted")
        row = row_of(ports, rollout_id)
        assert row.step == 0
        assert (row.error or "").startswith("shadow_judge: ")
        assert f"judged by {JUDGE}" in (row.error or "")


def _told(ports: Ports, rollout_id: str) -> str:
    look = row_of(ports, rollout_id).look
    return look["reason"] if look else ""


async def test_a_controller_that_comes_after_a_kill_goes_on_at_the_same_step(tmp_path: Path, model: Path) -> None:
    async with serving(tmp_path / "home", model) as ports:
        version = accept(ports, make_adapter(tmp_path / "made", model))
        rollout_id = start(ports, version)
        for step in range(len(STEPS)):
            async with controlling(ports):
                await eventually(lambda at=step: at_step(ports, rollout_id, at), f"it came to step {step}")
            route = routing(ports)
            vote(ports, rollout_id, step, champion_ups=0.5, challenger_ups=0.7)
            assert routing(ports) == route, "nobody leads, nothing moves"
        async with controlling(ports):
            await eventually(lambda: champion(ports) == version, "it answers everybody")


async def test_what_passed_its_gates_starts_its_steps_by_itself(tmp_path: Path, model: Path) -> None:
    async with serving(tmp_path / "home", model) as ports, controlling(ports):
        made = make_adapter(tmp_path / "made", model)
        bring_to_gates(ports, made)
        await eventually(lambda: _mirrored(ports) == {made.version: 0.5}, "its shadow step began")
    assert champion(ports) == "base"


async def test_a_second_candidate_queues_and_follows_an_aborted_first(tmp_path: Path, model: Path) -> None:
    async with serving(tmp_path / "home", model) as ports, controlling(ports):
        first, second = (accept(ports, make_adapter(tmp_path / f"made-{n}", model, seed=n)) for n in range(2))
        going = start(ports, first)
        await eventually(lambda: at_step(ports, going, 0), "the first began")
        waiting = start(ports, second)
        assert rollout_state(ports, waiting) == "queued"
        with ports.database.transaction() as session:
            wishes.abort(session, going, tenant="default", actor="ada", reason="enough")
        await eventually(lambda: at_step(ports, waiting, 0), "the second follows")


async def test_a_step_that_decides_nothing_in_its_time_asks_a_person(tmp_path: Path, model: Path) -> None:
    steps = [Step(share=0.2, min_votes=10, max_s=0.2, on_inconclusive=Inconclusive.ASK)]
    async with serving(tmp_path / "home", model, steps) as ports, controlling(ports):
        version = accept(ports, make_adapter(tmp_path / "made", model))
        rollout_id = start(ports, version)
        await eventually(lambda: rollout_state(ports, rollout_id) == "awaiting_person", "it asks")
        assert "resume it, promote it, or abort it" in (row_of(ports, rollout_id).error or "")
        with ports.database.transaction() as session:
            wishes.promote(session, Wish(version, "base", "ada", "I have seen enough"))
        await eventually(lambda: rollout_state(ports, rollout_id) == "done", "the person's yes was carried out")


def _mirrored(ports: Ports) -> dict[str, float]:
    table = routing(ports)
    return table.aliases["assistant"].mirrors if table else {}
