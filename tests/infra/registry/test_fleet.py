"""What runs now: one table that only its lease holder may follow up, and the heartbeats of those who apply it."""

from datetime import timedelta

import pytest

from infra.clock import now
from infra.contracts.routing import ReplicaState, RoutingTable
from infra.database.engine import Database
from infra.database.tables import GatewayRow
from infra.ports import Ports
from infra.registry import audit, fleet, leases
from infra.registry.errors import Conflict, LeaseLost, NotFound
from infra.registry.fleet import Counts
from infra.registry.leases import Lease
from tests.support.routing import make_replica, make_route


@pytest.fixture
def database(ports: Ports) -> Database:
    return ports.database


def lead(database: Database, holder: str = "controller", ttl_s: float = 60) -> Lease:
    with database.transaction() as session:
        lease = leases.acquire(session, "controller", holder, ttl_s)
    assert lease is not None
    return lease


def publish(database: Database, lease: Lease, revision: int) -> None:
    table = RoutingTable(revision=revision, issued_at=now(), aliases={"assistant": make_route()}, replicas=[])
    with database.transaction() as session:
        fleet.publish_routing(session, lease, table)


def revision(database: Database) -> int:
    with database.reading() as session:
        return fleet.routing_revision(session)


def test_before_the_first_table_the_revision_is_0(database: Database) -> None:
    assert revision(database) == 0
    with database.reading() as session:
        assert fleet.routing_table(session) is None


def test_a_table_follows_the_one_before_and_is_read_back(database: Database) -> None:
    lease = lead(database)
    publish(database, lease, 1)
    publish(database, lease, 2)
    with database.reading() as session:
        table = fleet.routing_table(session)
    assert table is not None
    assert (table.revision, table.aliases["assistant"].champion) == (2, "base")


@pytest.mark.parametrize("skipped", [1, 3])
def test_a_table_made_from_another_than_the_last_one_is_refused(database: Database, skipped: int) -> None:
    lease = lead(database)
    publish(database, lease, 1)
    with pytest.raises(Conflict, match="does not follow 1"):
        publish(database, lease, skipped)
    assert revision(database) == 1


def test_a_controller_that_was_paused_publishes_nothing(database: Database) -> None:
    paused = lead(database, "first", ttl_s=-1)
    lead(database, "second")
    with pytest.raises(LeaseLost):
        publish(database, paused, 1)
    assert revision(database) == 0


def test_a_gateway_is_live_until_it_is_silent_for_too_long_or_says_good_bye(database: Database) -> None:
    with database.transaction() as session:
        for name in ("silent", "leaving", "live"):
            fleet.report_gateway(session, name, "http://here", 3, {"base": 2})
        row = session.get(GatewayRow, "silent")
        assert row is not None
        row.heartbeat_at = now() - timedelta(seconds=9)
        fleet.forget_gateway(session, "leaving")
    with database.reading() as session:
        (found,) = fleet.live_gateways(session, ttl_s=5)
    assert (found.gateway_id, found.applied_revision, found.in_flight) == ("live", 3, {"base": 2})


def test_a_gateways_next_report_replaces_its_last_one(database: Database) -> None:
    for applied, in_flight in ((1, {"base": 1}), (2, {})):
        with database.transaction() as session:
            fleet.report_gateway(session, "one", "http://here", applied, in_flight)
    with database.reading() as session:
        (found,) = fleet.live_gateways(session, ttl_s=60)
    assert (found.applied_revision, found.in_flight) == (2, {})


def test_a_replica_that_starts_again_replaces_what_it_was(database: Database) -> None:
    again = make_replica(address="http://two", state=ReplicaState.STARTING, versions=[])
    for replica in (make_replica(), again):
        with database.transaction() as session:
            fleet.report_replica(session, replica)
    with database.reading() as session:
        assert fleet.replicas(session) == [again]


def test_pairs_and_thumbs_are_counted_up_and_down_for_each_alias_of_each_tenant(database: Database) -> None:
    with database.transaction() as session:
        for tenant, alias, change in (("a", "x", 3), ("a", "x", -1), ("a", "y", 1), ("b", "x", 5)):
            fleet.add_counts(session, tenant, alias, pairs=change, thumbs=2 * change)
    with database.reading() as session:
        assert fleet.all_counts(session) == [
            ("a", "x", Counts(2, 4)), ("a", "y", Counts(1, 2)), ("b", "x", Counts(5, 10)),
        ]  # fmt: skip
        assert fleet.counts(session, "a", "z") == Counts()


def names(database: Database) -> list[str]:
    with database.reading() as session:
        return [replica.name for replica in fleet.replicas(session)]


def test_replicas_that_were_found_are_exactly_those_and_own_ones_stay(database: Database) -> None:
    lease = lead(database)
    a, b, c = (make_replica(name=name, discovered=True) for name in ("a:1", "b:1", "c:1"))
    with database.transaction() as session:
        fleet.register_replica(session, make_replica())
        fleet.enrol_replicas(session, lease, [a, b])
    with database.transaction() as session:
        fleet.enrol_replicas(session, lease, [b, c])
    assert names(database) == ["b:1", "c:1", "replica-0"]


def test_one_that_is_known_already_keeps_what_was_verified_on_it(database: Database) -> None:
    lease, known = lead(database), make_replica(name="a:1", discovered=True, versions=["base", "v1"])
    with database.transaction() as session:
        fleet.report_replica(session, known)
        fleet.enrol_replicas(session, lease, [make_replica(name="a:1", discovered=True, versions=[])])
    with database.reading() as session:
        assert fleet.replicas(session) == [known]


def test_who_lost_the_lease_enrols_nobody(database: Database) -> None:
    lease = lead(database, "one", ttl_s=0)
    lead(database, "another")
    with pytest.raises(LeaseLost), database.transaction() as session:
        fleet.enrol_replicas(session, lease, [make_replica(name="a:1", discovered=True)])
    assert names(database) == []


def test_a_wish_to_drain_outlives_the_replicas_process_and_is_audited(database: Database) -> None:
    with database.transaction() as session:
        fleet.register_replica(session, make_replica())
        fleet.set_drain(session, "replica-0", drain=True, actor="ann", reason="a new card", tenant="default")
    with database.transaction() as session:
        fleet.register_replica(session, make_replica(address="http://127.0.0.1:2"))
    with database.reading() as session:
        assert [(row.address, row.drain) for row in fleet.replicas(session)] == [("http://127.0.0.1:2", True)]
        (entry,) = audit.list_entries(session, "default", subject="replica-0")
    assert (entry.actor, entry.action, entry.reason) == ("ann", "replica.drain", "a new card")
    assert (entry.before, entry.after) == ({"drain": False}, {"drain": True})


def test_there_is_nothing_to_drain_under_a_name_that_nobody_has(database: Database) -> None:
    with pytest.raises(NotFound), database.transaction() as session:
        fleet.set_drain(session, "gone", drain=True, actor="ann", reason="", tenant="default")
