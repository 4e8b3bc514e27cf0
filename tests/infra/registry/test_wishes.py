"""What people ask of rollouts, and what happens at once: back to the champion without waiting for a controller."""

from typing import Any

import pytest
from sqlalchemy.orm import Session

from infra.contracts.rollouts import Step, StepKind
from infra.contracts.routing import AliasRoute, Replica, ReplicaState, RoutingTable, base_version
from infra.database.engine import Database
from infra.database.tables import RolloutRow
from infra.ports import Ports
from infra.registry import adapters, audit, cycles, fleet, leases, rollouts, wishes
from infra.registry.adapters import AdapterState
from infra.registry.cycles import CycleState
from infra.registry.errors import Conflict, IllegalTransition, NotFound
from infra.registry.leases import Lease
from infra.registry.rollouts import ON_TRAFFIC, TRANSITIONS, RolloutState
from infra.registry.wishes import Wish
from tests.support.cycles import cycle_row, hold, make_cycle
from tests.support.manifests import make_adapter_manifest
from tests.support.routing import make_replica, make_route, make_table

R = RolloutState
V1, V2, V3 = "assistant-1-aaaaaaaa", "assistant-2-bbbbbbbb", "assistant-3-cccccccc"
STEPS = (Step(share=0.1), Step(share=0.5))


@pytest.fixture
def database(ports: Ports) -> Database:
    """V1 is champion; V2 and V3 passed their gates; every replica has all three."""
    with ports.database.transaction() as session:
        for version in (V1, V2, V3):
            adapters.register(session, make_adapter_manifest(version=version, cycle_id=None), f"adapters/{version}")
            adapters.move(session, version, AdapterState.ACCEPTED)
        adapters.move(session, V1, AdapterState.CHAMPION)
    publish(ports.database, make_route(V1))
    return ports.database


def controller(session: Session) -> Lease:
    lease = leases.acquire(session, "controller", "controller", 10)
    assert lease
    return lease


def publish(database: Database, route: AliasRoute, replicas: list[Replica] | None = None) -> None:
    with database.transaction() as session:
        revision = fleet.routing_revision(session) + 1
        found = replicas or [make_replica(versions=["base", V1, V2, V3])]
        table = make_table(revision, aliases={"assistant": route}, replicas=found)
        fleet.publish_routing(session, controller(session), table)


def start(database: Database, version: str = V2, *, force: bool = False) -> str:
    with database.transaction() as session:
        return wishes.start(session, Wish(version, V1, "ada", "it is better", force=force), STEPS).rollout_id


def running(database: Database, step: int = 0) -> str:
    """A rollout of V2 at a step, with its traffic."""
    rollout_id = start(database)
    with database.transaction() as session:
        lease = controller(session)
        rollouts.advance(session, lease, rollout_id, R.LOADING)
        rollouts.advance(session, lease, rollout_id, R.RUNNING, step=step)
    publish(database, make_route(V1).stepped(V2, rollout_id, step, STEPS[step]))
    return rollout_id


def act(database: Database, wish: Any, rollout_id: str) -> RolloutRow:
    with database.transaction() as session:
        row: RolloutRow = wish(session, rollout_id, tenant="default", actor="ada", reason="because")
        return row


def row_of(database: Database, rollout_id: str) -> RolloutRow:
    with database.reading() as session:
        return rollouts.get(session, rollout_id)


def table_of(database: Database) -> RoutingTable:
    with database.reading() as session:
        table = fleet.routing_table(session)
    assert table
    return table


def route_of(database: Database) -> AliasRoute:
    return table_of(database).aliases["assistant"]


def state_of(database: Database, version: str) -> str:
    with database.reading() as session:
        return adapters.get(session, version).state


def test_what_is_started_while_another_is_under_way_waits_in_the_queue(database: Database) -> None:
    running(database)
    queued = start(database, V3)
    with database.reading() as session:
        assert [row.state for row in rollouts.unfinished(session)] == ["running", "queued"]
        active = rollouts.active(session, "assistant")
    assert active is not None
    assert active.version == V2
    act(database, wishes.abort, queued)
    assert row_of(database, queued).state == "aborted"
    assert route_of(database).challenger == V2


def test_a_version_is_not_rolled_out_twice_at_a_time(database: Database) -> None:
    running(database)
    with pytest.raises(Conflict, match="already"):
        start(database)


def test_the_champion_is_not_rolled_out_to_itself(database: Database) -> None:
    with pytest.raises((Conflict, IllegalTransition)):
        start(database, V1)


def judged(database: Database, state: AdapterState, cycle_id: str | None = None) -> str:
    """A version of which its gates have said so."""
    with database.transaction() as session:
        adapters.register(
            session, make_adapter_manifest(version="assistant-4-dddddddd", cycle_id=cycle_id), "adapters/4"
        )
        return adapters.move(session, "assistant-4-dddddddd", state).version


def waiting_cycle(ports: Ports) -> str:
    cycle_id = make_cycle(ports, state=CycleState.PUBLISHING)
    lease = hold(ports, cycle_id)
    with ports.database.transaction() as session:
        for state in (CycleState.GATING, CycleState.AWAITING_PERSON):
            cycles.advance(session, lease, cycle_id, state)
    return cycle_id


def test_what_its_gates_blocked_starts_by_force_alone(database: Database) -> None:
    blocked = judged(database, AdapterState.BLOCKED)
    with pytest.raises(IllegalTransition, match="is blocked and cannot be promoted: with force it may earn"):
        start(database, blocked)
    assert row_of(database, start(database, blocked, force=True)).state == R.REQUESTED
    with database.reading() as session:
        assert adapters.get(session, blocked).state == AdapterState.ACCEPTED


def test_what_its_gates_left_undecided_a_person_may_start_which_decides_its_cycle_too(
    ports: Ports, database: Database
) -> None:
    cycle_id = waiting_cycle(ports)
    undecided = judged(database, AdapterState.AWAITING_PERSON, cycle_id)
    start(database, undecided)
    with database.reading() as session:
        assert adapters.get(session, undecided).state == AdapterState.ACCEPTED
    decided = cycle_row(ports, cycle_id)
    assert (decided.state, decided.reason) == (CycleState.ACCEPTED, "ada: it is better")


def test_an_abort_takes_the_traffic_away_in_the_same_transaction(database: Database) -> None:
    rollout_id, before = running(database), table_of(database).revision
    act(database, wishes.abort, rollout_id)
    route = route_of(database)
    assert (table_of(database).revision, route.champion, route.challenger) == (before + 1, V1, None)
    assert (route.versions[0].weight, route.rollout_step) == (1.0, None)


def test_an_abort_that_is_rolled_back_leaves_the_table_as_it_was(database: Database) -> None:
    rollout_id = running(database)

    def fail(session: Session) -> None:
        wishes.abort(session, rollout_id, tenant="default", actor="ada", reason="because")
        raise RuntimeError("the connection broke")

    with pytest.raises(RuntimeError), database.transaction() as session:
        fail(session)
    assert route_of(database).challenger == V2
    assert row_of(database, rollout_id).state == "running"


def test_what_was_aborted_on_traffic_is_marked_and_offered_again_only_by_force(database: Database) -> None:
    act(database, wishes.abort, running(database))
    assert state_of(database, V2) == "rolled_back"
    with pytest.raises(IllegalTransition, match="force"):
        start(database)
    assert row_of(database, start(database, force=True)).state == "requested"


def test_what_was_aborted_before_anybody_met_it_may_start_again(database: Database) -> None:
    act(database, wishes.abort, start(database))
    assert state_of(database, V2) == "accepted"
    start(database)


def test_an_abort_is_audited_with_who_why_before_and_after(database: Database) -> None:
    rollout_id = running(database, step=1)
    act(database, wishes.abort, rollout_id)
    with database.reading() as session:
        entry = audit.list_entries(session, "default", subject=V2)[0]
    assert (entry.actor, entry.action, entry.reason) == ("ada", "rollout.abort", "ada: because")
    assert (entry.before, entry.after) == (
        {"state": "running", "step": 1},
        {"state": "aborted", "rollout_id": rollout_id},
    )


def test_a_shadow_that_is_aborted_is_mirrored_to_no_longer(database: Database) -> None:
    rollout_id = running(database)
    publish(database, make_route(V1).stepped(V2, rollout_id, 0, Step(kind=StepKind.SHADOW, share=0.2)))
    act(database, wishes.abort, rollout_id)
    assert route_of(database).mirrors == {}


def test_a_pause_keeps_the_traffic_and_a_resume_begins_the_step_anew(database: Database) -> None:
    rollout_id = running(database)
    began = row_of(database, rollout_id).step_began_at
    assert act(database, wishes.pause, rollout_id).state == "paused"
    assert route_of(database).challenger == V2
    resumed = act(database, wishes.resume, rollout_id)
    assert (resumed.state, resumed.step) == ("running", 0)
    assert began is not None
    assert resumed.step_began_at is not None
    assert resumed.step_began_at > began


def test_pausing_twice_is_refused_with_the_state(database: Database) -> None:
    rollout_id = running(database)
    act(database, wishes.pause, rollout_id)
    with pytest.raises(IllegalTransition, match="paused already"):
        act(database, wishes.pause, rollout_id)


def test_promoting_what_is_at_its_steps_leaves_out_the_rest(database: Database) -> None:
    rollout_id = running(database)
    with database.transaction() as session:
        row = wishes.promote(session, Wish(V2, V1, "ada", "enough seen"))
    assert (row.rollout_id, row.state, row.step) == (rollout_id, "loading", len(STEPS))
    assert route_of(database).challenger == V2


def test_promoting_another_version_meanwhile_is_a_conflict(database: Database) -> None:
    running(database)
    with pytest.raises(Conflict, match="wait for it or abort it"), database.transaction() as session:
        wishes.promote(session, Wish(V3, V1, "ada", "better still"))


def retire_v1(database: Database) -> None:
    """V2 took its place."""
    with database.transaction() as session:
        row = wishes.promote(session, Wish(V2, V1, "ada", "better"))
        lease = controller(session)
        for state in (R.LOADING, R.DRAINING, R.DONE):
            rollouts.advance(session, lease, row.rollout_id, state)
        rollouts.champion_states(session, row)
    publish(database, make_route(V2, previous=[V1]))


def roll_back(database: Database, version: str = V1) -> RolloutRow:
    with database.transaction() as session:
        return wishes.rollback(session, Wish(version, V2, "ada", "worse"), tenant="default", alias="assistant")


def test_a_rollback_to_what_every_replica_has_moves_the_table_at_once(database: Database) -> None:
    retire_v1(database)
    before = table_of(database).revision
    row = roll_back(database)
    assert (row.state, row.flipped_at is not None) == ("draining", True)
    assert (table_of(database).revision, route_of(database).champion) == (before + 1, V1)
    assert (state_of(database, V1), state_of(database, V2)) == ("champion", "rolled_back")


def test_a_rollback_to_what_one_replica_lacks_waits_for_its_load(database: Database) -> None:
    retire_v1(database)
    replicas = [make_replica(versions=["base", V1, V2]), make_replica(name="replica-1", versions=["base", V2])]
    publish(database, make_route(V2, previous=[V1]), replicas)
    assert roll_back(database).state == "requested"
    assert route_of(database).champion == V2


def test_a_replica_that_answers_nobody_holds_back_no_rollback(database: Database) -> None:
    retire_v1(database)
    down = make_replica(name="replica-1", versions=[], state=ReplicaState.DOWN)
    publish(database, make_route(V2, previous=[V1]), [make_replica(versions=["base", V1, V2]), down])
    assert roll_back(database).state == "draining"


def test_a_rollback_takes_a_running_rollouts_traffic_with_it(database: Database) -> None:
    retire_v1(database)
    with database.transaction() as session:
        going = wishes.start(session, Wish(V3, V2, "ada", "newer"), STEPS).rollout_id
        lease = controller(session)
        rollouts.advance(session, lease, going, R.LOADING)
        rollouts.advance(session, lease, going, R.RUNNING, step=0)
    publish(database, make_route(V2, previous=[V1]).stepped(V3, going, 0, STEPS[0]))
    roll_back(database)
    assert (route_of(database).champion, route_of(database).challenger) == (V1, None)
    assert row_of(database, going).error == f"superseded by a rollback to {V1}"


def test_the_controller_that_planned_from_an_older_table_meets_a_conflict(database: Database) -> None:
    rollout_id = running(database)
    stale = table_of(database)
    act(database, wishes.abort, rollout_id)
    later = stale.model_copy(update={"revision": stale.revision + 1})
    with pytest.raises(Conflict), database.transaction() as session:
        fleet.publish_routing(session, controller(session), later)


@pytest.mark.parametrize("wish", [wishes.abort, wishes.pause, wishes.resume])
def test_another_tenants_rollout_does_not_exist(database: Database, wish: Any) -> None:
    rollout_id = running(database)
    with pytest.raises(NotFound), database.transaction() as session:
        wish(session, rollout_id, tenant="other", actor="eve", reason="")


def test_every_state_but_the_final_ones_can_be_left_and_traffic_can_always_be_aborted() -> None:
    assert {state for state, targets in TRANSITIONS.items() if not targets} == rollouts.FINAL_STATES
    assert all(R.ABORTED in TRANSITIONS[state] for state in ON_TRAFFIC)


OLD, NEW = "0123456789ab", "fedcba987654"
NEXT, LAST = base_version(NEW), base_version(OLD)
NEW_REPLICA = make_replica(name="replica-n", base_revision=NEW, versions=[NEXT])


def both() -> list[Replica]:
    return [make_replica(versions=["base", V1, V2, V3]), NEW_REPLICA]


def start_base(database: Database, version: str = NEXT, *, alias: str = "assistant", force: bool = False) -> str:
    with database.transaction() as session:
        wish = Wish(version, V1, "ada", "a newer base", "default", force, alias)
        return wishes.start(session, wish, STEPS).rollout_id


def test_a_base_that_a_replica_has_may_be_rolled_out_like_any_version(database: Database) -> None:
    publish(database, make_route(V1), both())
    rollout_id = start_base(database)
    with database.reading() as session:
        row = rollouts.get(session, rollout_id)
        assert (row.alias, row.version, row.from_version, row.state) == ("assistant", NEXT, V1, R.REQUESTED)
        assert wishes.alias_of(session, NEXT, None, "helper") == "helper"
        assert wishes.alias_of(session, V2, None, "helper") == "assistant"


def test_a_base_that_no_replica_has_is_not_found_and_those_that_are_there_are_named(database: Database) -> None:
    with pytest.raises(NotFound, match=f"no replica has {NEXT}; there are {LAST}"):
        start_base(database)
    with pytest.raises(NotFound, match="helper is not served"):
        start_base(database, LAST, alias="helper")


def test_a_base_that_was_taken_back_is_offered_again_only_by_force(database: Database) -> None:
    publish(database, make_route(V1), both())
    rollout_id = start_base(database)
    with database.transaction() as session:
        lease = controller(session)
        rollouts.advance(session, lease, rollout_id, R.LOADING)
        rollouts.advance(session, lease, rollout_id, R.RUNNING, step=0)
        wishes.abort(session, rollout_id, tenant="default", actor="ada", reason="it lies")
    with pytest.raises(IllegalTransition, match=r"was taken back \(ada: it lies\)"):
        start_base(database)
    start_base(database, force=True)


def test_a_base_that_was_rolled_back_is_offered_again_only_by_force(database: Database) -> None:
    publish(database, make_route("base").flipped(NEXT, "r0", NEW), both())
    with database.transaction() as session:
        wishes.rollback(session, Wish(LAST, NEXT, "ada", "it lies"), tenant="default", alias="assistant")
    publish(database, make_route(LAST), both())
    with pytest.raises(IllegalTransition, match=r"was taken back \(it lies\)"):
        start_base(database)


@pytest.mark.parametrize("target", [V1, LAST])
def test_a_rollback_across_bases_moves_the_table_at_once_by_the_replicas_of_that_base_alone(
    database: Database, target: str
) -> None:
    with database.transaction() as session:
        adapters.move(session, V1, AdapterState.RETIRED)
    publish(database, make_route(V1).flipped(NEXT, "r0", NEW), both())
    with database.transaction() as session:
        row = wishes.rollback(session, Wish(target, NEXT, "ada", "it lies"), tenant="default", alias="assistant")
        assert (row.state, row.from_version) == (R.DRAINING, NEXT)
        table = fleet.routing_table(session)
    assert table is not None
    route = table.aliases["assistant"]
    assert (route.champion, route.base_revision, route.previous[0]) == (target, OLD, NEXT)


def test_what_a_rollback_left_on_another_base_is_remembered_by_a_name_that_lasts(database: Database) -> None:
    publish(database, make_route("base"), both())
    with database.transaction() as session:
        row = wishes.rollback(session, Wish(NEXT, "base", "ada", "back"), tenant="default", alias="assistant")
        assert (row.state, row.from_version) == (R.DRAINING, LAST)
