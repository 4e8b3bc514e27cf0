"""The controller at work: a real registry and artifact store, and an engine that only pretends to compute."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.base_model import base_revision
from infra.contracts.routing import ReplicaState
from infra.ports import Ports
from infra.registry import adapters, audit, cycles, fleet, leases, rollouts, wishes
from infra.registry.cycles import CycleState
from infra.registry.errors import Conflict
from serving.adapters import WEIGHTS
from serving.controller import LEASE
from tests.support.adapters import BAD, MadeAdapter, make_adapter, make_bad_adapter, tamper
from tests.support.control_engine import ControlEngine, running_control_engine
from tests.support.controllers import (
    SMOKE,
    accept,
    adapter_state,
    bring_to_gates,
    champion,
    controlling,
    copy_in_store,
    cycle_state,
    eventually,
    make_evidence,
    promote,
    register_replica,
    replica,
    roll_back,
    rollout_state,
    routing,
)
from tests.support.cycles import cycle_row, make_cycle
from tests.support.home import make_ports
from tests.support.tiny_model import make_tiny_model

QUICK = {"THUMBWHEEL_SERVING__POLL_S": "0.02", "THUMBWHEEL_SERVING__ROLLOUT_STEPS": "[]"}


@dataclass
class Place:
    """One engine that runs, registered; `directory` is for what a test makes."""

    ports: Ports
    engine: ControlEngine
    model: Path
    directory: Path
    made: int = 0

    def adapter(self, **fields: object) -> MadeAdapter:
        """Another good one each time."""
        self.made += 1
        return make_adapter(self.directory / f"made-{self.made}", self.model, seed=self.made, **fields)  # type: ignore[arg-type]

    def bad_adapter(self, kind: str) -> MadeAdapter:
        return make_bad_adapter(kind, self.directory / kind, self.model)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
async def place(tmp_path: Path, model: Path) -> AsyncIterator[Place]:
    ports = make_ports(tmp_path / "home", THUMBWHEEL_SERVING__MODEL=str(model), **QUICK)
    async with running_control_engine(key=ports.engine_key, knows=[SMOKE]) as engine:
        register_replica(ports, engine.address, base_revision(model))
        yield Place(ports, engine, model, tmp_path)
    ports.close()


async def becomes_champion(place: Place, version: str) -> None:
    rollout_id = promote(place.ports, version)
    await eventually(lambda: rollout_state(place.ports, rollout_id) == "done", f"{version} was rolled out")
    assert champion(place.ports) == version


def report_gateway(ports: Ports, **in_flight: int) -> None:
    """A gateway that goes by the newest table."""
    table = routing(ports)
    with ports.database.transaction() as session:
        fleet.report_gateway(session, "gateway-1", "http://gateway", table.revision if table else 0, in_flight)


async def test_a_first_look_publishes_a_table_where_the_base_answers_everybody(place: Place) -> None:
    async with controlling(place.ports) as controller:
        await eventually(lambda: replica(place.ports).state is ReplicaState.READY, "the replica became ready")
        await eventually(lambda: controller.ready == 1, "the controller counts it")
    assert champion(place.ports) == "base"


async def test_a_promotion_is_fetched_checked_loaded_compared_and_then_flipped(place: Place) -> None:
    version = accept(place.ports, place.adapter())
    async with controlling(place.ports):
        await becomes_champion(place, version)
    assert list(place.engine.adapters) == [version]
    assert version in place.engine.asked
    assert Path(place.engine.adapters[version]).parent == place.ports.home / "serving" / "adapters"
    assert adapter_state(place.ports, version) == "champion"


async def test_a_flip_is_audited_with_its_reason_and_what_it_changed(place: Place) -> None:
    version = accept(place.ports, place.adapter())
    async with controlling(place.ports):
        await becomes_champion(place, version)
    with place.ports.database.reading() as session:
        flip, wish = audit.list_entries(session, "default", subject=version)
    assert (wish.actor, wish.action, wish.reason) == ("test", "rollout.promote", "it is better")
    assert (flip.actor, flip.action, flip.before) == ("controller", "rollout.flip", {"champion": "base"})
    assert flip.after["champion"] == version


async def test_a_rollback_flips_without_a_load_and_both_versions_states_say_so(place: Place) -> None:
    first, second = accept(place.ports, place.adapter()), accept(place.ports, place.adapter())
    async with controlling(place.ports):
        await becomes_champion(place, first)
        await becomes_champion(place, second)
        before = len(place.engine.calls)
        rollout_id = roll_back(place.ports, first)
        await eventually(lambda: rollout_state(place.ports, rollout_id) == "done", "the rollback ended")
    assert champion(place.ports) == first
    assert place.engine.calls[before:] == []
    assert (adapter_state(place.ports, first), adapter_state(place.ports, second)) == ("champion", "rolled_back")


async def test_an_old_version_stays_until_its_last_answer_has_ended(place: Place) -> None:
    first, second = accept(place.ports, place.adapter()), accept(place.ports, place.adapter())
    async with controlling(place.ports):
        await becomes_champion(place, first)
        report_gateway(place.ports, **{first: 1})
        rollout_id = promote(place.ports, second)
        await eventually(lambda: champion(place.ports) == second, "the table was flipped")
        report_gateway(place.ports, **{first: 1})
        await asyncio.sleep(0.2)
        assert rollout_state(place.ports, rollout_id) == "draining"
        report_gateway(place.ports)
        await eventually(lambda: rollout_state(place.ports, rollout_id) == "done", "the old version was drained")
    assert place.engine.names("unload") == []


async def test_what_no_longer_fits_the_slots_is_unloaded(place: Place) -> None:
    versions = [accept(place.ports, place.adapter()) for _ in range(6)]
    async with controlling(place.ports):
        for version in versions:
            await becomes_champion(place, version)
        await eventually(lambda: len(place.engine.adapters) == 4, "four slots are left")
    assert set(place.engine.adapters) == set(versions[2:])


async def test_an_engine_that_restarts_gets_its_adapters_back_before_it_is_ready(place: Place) -> None:
    version = accept(place.ports, place.adapter())
    async with controlling(place.ports):
        await becomes_champion(place, version)
        place.engine.off = 1.0  # what it computes now is not what the trainer did
        place.engine.restart()
        await eventually(lambda: replica(place.ports).state is ReplicaState.STARTING, "it went out of service")
        await eventually(lambda: version in place.engine.adapters, "it got its adapter")
        await asyncio.sleep(0.2)
        assert replica(place.ports).state is ReplicaState.STARTING, "it is not ready before its smoke has passed"
        place.engine.off = 0.0
        await eventually(lambda: replica(place.ports).state is ReplicaState.READY, "it became ready again")
    assert champion(place.ports) == version


async def test_an_engine_that_does_not_answer_is_down_and_comes_back(place: Place) -> None:
    async with controlling(place.ports):
        await eventually(lambda: replica(place.ports).state is ReplicaState.READY, "it was ready")
        place.engine.healthy = False
        await eventually(lambda: replica(place.ports).state is ReplicaState.DOWN, "it was taken out of service")
        place.engine.healthy = True
        await eventually(lambda: replica(place.ports).state is ReplicaState.READY, "it was taken in again")


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_adapter_is_refused_at_its_gates_with_its_reason(place: Place, kind: str) -> None:
    good, bad = accept(place.ports, place.adapter()), place.bad_adapter(kind)
    async with controlling(place.ports):
        await becomes_champion(place, good)
        cycle_id = bring_to_gates(place.ports, bad, make_evidence(bad.version, champion=good))
        await eventually(lambda: cycle_state(place.ports, cycle_id) == "blocked", "its cycle was blocked")
    with place.ports.database.reading() as session:
        row = adapters.get(session, bad.version)
    validity = row.gates["gates"][0]
    assert (row.state, validity["name"], validity["verdict"]) == ("refused", "validity", "fail")
    assert BAD[kind][1] in row.reason
    assert BAD[kind][1] in cycle_row(place.ports, cycle_id).reason
    assert place.engine.names("load") == [good]
    assert champion(place.ports) == good


async def test_an_adapter_that_was_changed_in_the_store_is_refused(place: Place) -> None:
    made = place.adapter()
    cycle_id = bring_to_gates(place.ports, made, spoil=tamper)
    async with controlling(place.ports):
        await eventually(lambda: cycle_state(place.ports, cycle_id) == "blocked", "its cycle was blocked")
    assert adapter_state(place.ports, made.version) == "refused"
    assert "adapter_model.safetensors has SHA-256" in (cycle_row(place.ports, cycle_id).reason or "")


async def test_an_adapter_that_is_not_in_the_store_is_refused(place: Place) -> None:
    made = place.adapter()
    cycle_id = bring_to_gates(place.ports, made)
    place.ports.artifacts.delete([f"adapters/{made.version}"])
    async with controlling(place.ports):
        await eventually(lambda: cycle_state(place.ports, cycle_id) == "blocked", "its cycle was blocked")
    assert "is not in the artifact store" in (cycle_row(place.ports, cycle_id).reason or "")


async def test_what_happens_to_the_store_later_does_not_reach_a_version_that_serves(place: Place) -> None:
    version = accept(place.ports, place.adapter())
    async with controlling(place.ports):
        await becomes_champion(place, version)
        tamper(copy_in_store(place.ports, version))
        place.engine.restart()
        await eventually(lambda: version in place.engine.adapters, "it was loaded from its own copy")
        await eventually(lambda: replica(place.ports).state is ReplicaState.READY, "it became ready again")
    assert (Path(place.engine.adapters[version]) / WEIGHTS).exists()


async def test_an_engine_that_computes_something_else_blocks_the_candidate_and_lets_go_of_it(place: Place) -> None:
    made = place.adapter()
    place.engine.off = 0.5
    cycle_id = bring_to_gates(place.ports, made)
    async with controlling(place.ports):
        await eventually(lambda: cycle_state(place.ports, cycle_id) == "blocked", "its cycle was blocked")
        await eventually(lambda: made.version not in place.engine.adapters, "it was unloaded")
    assert adapter_state(place.ports, made.version) == "blocked"
    assert "up to 0.5 nats from the trainer's" in (cycle_row(place.ports, cycle_id).reason or "")


async def test_what_the_engine_refuses_to_load_is_blocked_with_its_words(place: Place) -> None:
    made = place.adapter()
    place.engine.refuses[made.version] = "LoRA rank 8 is greater than max_lora_rank 4"
    cycle_id = bring_to_gates(place.ports, made)
    async with controlling(place.ports):
        await eventually(lambda: cycle_state(place.ports, cycle_id) == "blocked", "its cycle was blocked")
    assert "greater than max_lora_rank" in (cycle_row(place.ports, cycle_id).reason or "")


async def test_promoting_a_bad_version_fails_its_rollout_and_leaves_the_champion(place: Place) -> None:
    good, bad = accept(place.ports, place.adapter()), accept(place.ports, place.bad_adapter("NaN"))
    async with controlling(place.ports):
        await becomes_champion(place, good)
        rollout_id = promote(place.ports, bad)
        await eventually(lambda: rollout_state(place.ports, rollout_id) == "failed", "the rollout failed")
    with place.ports.database.reading() as session:
        assert "not finite" in (rollouts.get(session, rollout_id).error or "")
    assert (champion(place.ports), adapter_state(place.ports, bad)) == (good, "refused")


async def test_a_candidate_that_passes_every_gate_is_promoted_by_itself(place: Place) -> None:
    made = place.adapter()
    cycle_id = bring_to_gates(place.ports, made)
    async with controlling(place.ports):
        await eventually(lambda: champion(place.ports) == made.version, "it was promoted")
    assert cycle_state(place.ports, cycle_id) == "accepted"
    assert place.ports.artifacts.exists(f"reports/{cycle_id}/gates-{made.version}.json")


async def test_without_auto_promote_a_passed_candidate_waits(tmp_path: Path, model: Path) -> None:
    settings = {"THUMBWHEEL_SERVING__MODEL": str(model), "THUMBWHEEL_SERVING__AUTO_PROMOTE": "false", **QUICK}
    ports = make_ports(tmp_path / "home", **settings)
    async with running_control_engine(key=ports.engine_key, knows=[SMOKE]) as engine:
        register_replica(ports, engine.address, base_revision(model))
        cycle_id = bring_to_gates(ports, make_adapter(tmp_path / "made", model))
        async with controlling(ports):
            await eventually(lambda: cycle_state(ports, cycle_id) == "accepted", "it passed")
            await asyncio.sleep(0.2)
    assert champion(ports) == "base"
    ports.close()


async def test_what_could_not_be_measured_waits_for_a_person_whose_word_closes_the_cycle(place: Place) -> None:
    made = place.adapter()
    cycle_id = bring_to_gates(place.ports, made, make_evidence(made.version, judge_win_rate=None))
    async with controlling(place.ports):
        await eventually(lambda: cycle_state(place.ports, cycle_id) == "awaiting_person", "it waits for a person")
        assert champion(place.ports) == "base"
        await becomes_champion(place, made.version)
    assert cycle_state(place.ports, cycle_id) == "accepted"
    assert cycle_row(place.ports, cycle_id).reason == "test: it is better"


async def test_evidence_against_an_older_champion_promotes_nothing(place: Place) -> None:
    first, made = accept(place.ports, place.adapter()), place.adapter()
    async with controlling(place.ports):
        await becomes_champion(place, first)
        cycle_id = bring_to_gates(place.ports, made, make_evidence(made.version, champion="base"))
        await eventually(lambda: cycle_state(place.ports, cycle_id) == "awaiting_person", "it waits for a person")
    assert "measured against base" in (cycle_row(place.ports, cycle_id).reason or "")
    assert champion(place.ports) == first


async def test_a_cancelled_cycle_ends_at_its_gates(place: Place) -> None:
    made = place.adapter()
    cycle_id = bring_to_gates(place.ports, made)
    with place.ports.database.transaction() as session:
        cycles.request_cancel(session, cycle_id, tenant="default", actor="test")
    async with controlling(place.ports):
        await eventually(lambda: cycle_state(place.ports, cycle_id) == "cancelled", "it was cancelled")
    assert (champion(place.ports), adapter_state(place.ports, made.version)) == ("base", "published")


async def test_a_person_who_is_quicker_than_the_gates_only_makes_them_look_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = wishes.start
    conflicts = [Conflict("another rollout has just been asked for")]

    def once_in_conflict(*arguments: object, **fields: object) -> object:
        if conflicts:
            raise conflicts.pop()
        return asked(*arguments, **fields)  # type: ignore[arg-type]  # passed on

    made = place.adapter()
    monkeypatch.setattr("serving.gating.wishes.start", once_in_conflict)
    bring_to_gates(place.ports, made)
    async with controlling(place.ports):
        await eventually(lambda: champion(place.ports) == made.version, "it was decided at the second look")
    assert conflicts == []


async def test_training_adapters_are_swept_with_their_cycle(place: Place) -> None:
    running = make_cycle(place.ports, state=CycleState.POLICY)
    place.engine.adapters |= {f"train-{running}-1_3": "/somewhere", "train-999-1_3": "/somewhere"}
    async with controlling(place.ports):
        await eventually(lambda: place.engine.names("unload") == ["train-999-1_3"], "the stray one was unloaded")
    assert list(place.engine.adapters) == [f"train-{running}-1_3"]


async def test_a_controller_killed_between_load_and_flip_is_followed_by_one_that_goes_on(place: Place) -> None:
    version = accept(place.ports, place.adapter())
    place.engine.adapters[version] = "/loaded/before/the/kill"
    rollout_id = promote(place.ports, version)
    async with controlling(place.ports):
        await eventually(lambda: rollout_state(place.ports, rollout_id) == "done", "the rollout went on")
    assert place.engine.names("load") == []
    assert version in place.engine.asked, "it was compared all the same"


async def test_one_controller_leads_and_the_next_takes_over_where_it_left(place: Place) -> None:
    with place.ports.database.transaction() as session:
        other = leases.acquire(session, LEASE, "another controller", 30)
    assert other is not None
    async with controlling(place.ports) as controller:
        await asyncio.sleep(0.2)
        assert (controller.lease, routing(place.ports)) == (None, None)
        with place.ports.database.transaction() as session:
            leases.release(session, other)
        await eventually(lambda: routing(place.ports) is not None, "it took over")


async def test_a_controller_that_was_replaced_changes_nothing_more(place: Place) -> None:
    version = accept(place.ports, place.adapter())
    async with controlling(place.ports) as controller:
        await eventually(lambda: routing(place.ports) is not None, "it leads")
        with place.ports.database.transaction() as session:
            row = session.get_one(leases.LeaseRow, LEASE)
            row.holder, row.epoch = "another controller", row.epoch + 1
        await eventually(lambda: controller.lease is None, "it noticed")
        rollout_id = promote(place.ports, version)
        await asyncio.sleep(0.2)
    assert (rollout_state(place.ports, rollout_id), champion(place.ports)) == ("requested", "base")
