from datetime import UTC, datetime, timedelta

import pytest

from infra.database.engine import Database
from infra.ports import Ports
from infra.registry import cycles, fleet, leases
from infra.registry.cycles import CycleState
from infra.registry.errors import Conflict, LeaseLost
from infra.registry.leases import Lease
from tests.support.routing import make_table

PAST = -1.0  # a lease that has run out as soon as it is taken


@pytest.fixture
def database(ports: Ports) -> Database:
    return ports.database


def take(database: Database, holder: str, ttl_s: float = 10, name: str = "controller") -> Lease | None:
    with database.transaction() as session:
        return leases.acquire(session, name, holder, ttl_s)


def test_a_live_lease_is_not_given_away(database: Database) -> None:
    assert take(database, "first")
    assert take(database, "second") is None


def test_a_lease_that_ran_out_is_taken_over_with_a_higher_epoch(database: Database) -> None:
    first, second = take(database, "first", PAST), take(database, "second")
    assert first and second
    assert second.epoch > first.epoch


def test_a_released_lease_is_free_at_once(database: Database) -> None:
    first = take(database, "first")
    assert first
    with database.transaction() as session:
        leases.release(session, first)
    assert take(database, "second")


def test_a_heartbeat_keeps_the_lease_alive(database: Database) -> None:
    first = take(database, "first", PAST)
    assert first
    with database.transaction() as session:
        leases.heartbeat(session, first, 10)
    assert take(database, "second") is None


def test_a_holder_that_was_paused_and_wakes_changes_nothing(database: Database) -> None:
    with database.transaction() as session:
        cycles.trigger(session, tenant="default", alias="assistant", actor="operator")
    paused = take(database, "first", PAST, leases.cycle_lease("1"))
    heir = take(database, "second", name=leases.cycle_lease("1"))
    assert paused and heir
    with database.transaction() as session:
        cycles.advance(session, heir, "1", CycleState.SNAPSHOTTING)
    with pytest.raises(LeaseLost), database.transaction() as session:
        cycles.advance(session, paused, "1", CycleState.FAILED, reason="too late")
    with pytest.raises(LeaseLost), database.transaction() as session:
        cycles.report_progress(session, paused, "1", {"stage": "sft"})
    with database.reading() as session:
        row = cycles.get(session, "1")
        assert (row.state, row.reason, row.progress) == ("snapshotting", None, {})


def test_the_same_holder_coming_back_gets_a_new_epoch_and_its_old_self_is_fenced(database: Database) -> None:
    old, new = take(database, "first"), take(database, "first")
    assert old and new
    with pytest.raises(LeaseLost), database.transaction() as session:
        leases.heartbeat(session, old, 10)


def test_the_routing_table_is_compare_and_set(database: Database) -> None:
    lease = take(database, "first")
    assert lease
    with database.transaction() as session:
        fleet.publish_routing(session, lease, make_table(revision=1))
    with pytest.raises(Conflict, match="does not follow 1"), database.transaction() as session:
        fleet.publish_routing(session, lease, make_table(revision=1))


def test_a_fenced_controller_cannot_publish_routing(database: Database) -> None:
    paused = take(database, "first", PAST)
    take(database, "second")
    assert paused
    with pytest.raises(LeaseLost), database.transaction() as session:
        fleet.publish_routing(session, paused, make_table(revision=1))
    with database.reading() as session:
        assert fleet.routing_table(session) is None


def test_a_silent_gateway_is_no_longer_counted(database: Database) -> None:
    with database.transaction() as session:
        fleet.report_gateway(session, "gw-1", "http://127.0.0.1:1", 3, {"base": 2})
    with database.reading() as session:
        (row,) = fleet.live_gateways(session, ttl_s=5)
        assert (row.applied_revision, row.in_flight) == (3, {"base": 2})
        assert row.heartbeat_at > datetime.now(UTC) - timedelta(seconds=5)
        assert fleet.live_gateways(session, ttl_s=-1) == []
