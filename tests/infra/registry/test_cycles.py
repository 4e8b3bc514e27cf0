import pytest

from infra.database.engine import Database
from infra.ports import Ports
from infra.registry import audit, cycles, leases
from infra.registry.cycles import FINAL_STATES, TRANSITIONS, CycleState
from infra.registry.errors import Conflict, IllegalTransition, NotFound
from infra.registry.leases import Lease

HAPPY_PATH = ("snapshotting", "sft", "reward", "policy", "evaluating", "publishing", "gating", "accepted")


@pytest.fixture
def database(ports: Ports) -> Database:
    return ports.database


def trigger(database: Database, alias: str = "assistant", tenant: str = "default") -> str:
    with database.transaction() as session:
        return cycles.trigger(session, tenant=tenant, alias=alias, actor="operator", reason="because").cycle_id


def hold(database: Database, cycle_id: str) -> Lease:
    with database.transaction() as session:
        lease = leases.acquire(session, leases.cycle_lease(cycle_id), "worker", 10)
    assert lease
    return lease


def walk(database: Database, cycle_id: str, *states: str) -> None:
    lease = hold(database, cycle_id)
    for state in states:
        with database.transaction() as session:
            cycles.advance(session, lease, cycle_id, CycleState(state))


def test_a_cycle_goes_through_every_state_to_its_end_and_times_each(database: Database) -> None:
    cycle_id = trigger(database)
    walk(database, cycle_id, *HAPPY_PATH)
    with database.reading() as session:
        row = cycles.get(session, cycle_id)
    assert row.state == "accepted"
    assert set(row.seconds) == {"queued", *HAPPY_PATH[:-1]}


def test_every_state_is_either_final_or_can_fail_and_be_cancelled() -> None:
    for state in CycleState:
        if state not in FINAL_STATES:
            assert {CycleState.FAILED, CycleState.CANCELLED} <= TRANSITIONS[state]


def test_a_stage_cannot_be_skipped(database: Database) -> None:
    cycle_id = trigger(database)
    with pytest.raises(IllegalTransition, match="from queued to policy"):
        walk(database, cycle_id, "policy")


def test_there_are_never_two_cycles_of_one_alias_at_once(database: Database) -> None:
    trigger(database)
    with pytest.raises(Conflict, match="cycle 1 of assistant is queued"):
        trigger(database)


def test_two_aliases_may_run_at_once_and_their_cycles_have_different_names(database: Database) -> None:
    assert trigger(database, "assistant") != trigger(database, "coder")


def test_a_cycle_may_follow_one_that_ended(database: Database) -> None:
    walk(database, trigger(database), "failed")
    assert trigger(database) == "2"


def test_cancelling_a_queued_cycle_ends_it_and_is_audited(database: Database) -> None:
    cycle_id = trigger(database)
    with database.transaction() as session:
        cycles.request_cancel(session, cycle_id, tenant="default", actor="ada", reason="wrong data")
    with database.reading() as session:
        assert cycles.get(session, cycle_id).state == "cancelled"
        newest = audit.list_entries(session, "default")[0]
    assert (newest.action, newest.actor, newest.reason) == ("cycle.cancel", "ada", "wrong data")
    assert (newest.before["state"], newest.after["state"]) == ("queued", "cancelled")


def test_cancelling_a_running_cycle_is_seen_with_its_next_progress(database: Database) -> None:
    cycle_id = trigger(database)
    walk(database, cycle_id, "snapshotting", "sft")
    with database.transaction() as session:
        cycles.request_cancel(session, cycle_id, tenant="default", actor="ada")
    lease = hold(database, cycle_id)
    with database.transaction() as session:
        assert cycles.report_progress(session, lease, cycle_id, {"stage": "sft", "step": 1})


def test_an_ended_cycle_cannot_be_cancelled(database: Database) -> None:
    cycle_id = trigger(database)
    walk(database, cycle_id, "failed")
    with pytest.raises(IllegalTransition, match="already ended"), database.transaction() as session:
        cycles.request_cancel(session, cycle_id, tenant="default", actor="ada")


def test_another_tenants_cycle_does_not_exist(database: Database) -> None:
    cycle_id = trigger(database)
    with pytest.raises(NotFound), database.reading() as session:
        cycles.get(session, cycle_id, tenant="other")
    with database.reading() as session:
        assert cycles.list_cycles(session, "other") == []


def test_a_person_decides_only_where_one_is_asked(database: Database) -> None:
    cycle_id = trigger(database)
    with pytest.raises(IllegalTransition, match="nobody is asked"), database.transaction() as session:
        cycles.decide(session, cycle_id, CycleState.ACCEPTED, reason="ada: fine")
    walk(database, cycle_id, *HAPPY_PATH[:-1], "awaiting_person")
    with database.transaction() as session:
        assert cycles.decide(session, cycle_id, CycleState.ACCEPTED, reason="ada: fine").state == "accepted"
