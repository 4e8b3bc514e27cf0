"""What a plan does to the registry: all of it under the lease, or nothing."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from infra.clock import now
from infra.contracts.routing import Replica, ReplicaState
from infra.ports import Ports
from infra.registry import adapters, audit, fleet, leases, news, rollouts, wishes
from infra.registry.adapters import AdapterState
from infra.registry.errors import Conflict, LeaseLost
from infra.registry.leases import Lease
from infra.registry.rollouts import RolloutState
from infra.registry.wishes import Wish
from serving.engine import Look
from serving.reconcile import Plan, plan
from serving.rollout import apply_plan, mark_verified
from serving.snapshot import read_world
from serving.world import World
from tests.support.home import make_ports
from tests.support.manifests import make_adapter_manifest
from tests.support.routing import BASE_REVISION, make_replica

ADDRESS = "http://engine"


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = make_ports(tmp_path / "home")
    yield made
    made.close()


@pytest.fixture
def lease(ports: Ports) -> Lease:
    with ports.database.transaction() as session:
        found = leases.acquire(session, "controller", "test", 60)
    assert found is not None
    return found


def register(ports: Ports, version: str, state: AdapterState = AdapterState.ACCEPTED) -> None:
    with ports.database.transaction() as session:
        adapters.register(session, make_adapter_manifest(version=version, cycle_id=None), f"adapters/{version}")
        adapters.move(session, version, state)


def report(ports: Ports, **fields: object) -> Replica:
    found = make_replica(address=ADDRESS, **fields)
    with ports.database.transaction() as session:
        fleet.report_replica(session, found)
    return found


def look(
    ports: Ports, *loaded: str, base_revision: str = BASE_REVISION, refused: dict[str, str] | None = None
) -> World:
    """The world, with the engine's own word on what it holds beside the base."""
    with ports.database.reading() as session:
        return read_world(
            session,
            ports.settings.serving,
            alias="assistant",
            base_revision=base_revision,
            seen={ADDRESS: Look(frozenset({"base", *loaded}), 0.0)},
            refused=refused or {},
        )


def carry_out(ports: Ports, lease: Lease, world: World, planned: Plan | None = None) -> None:
    with ports.database.transaction() as session:
        apply_plan(session, lease, world, planned or plan(world, now()))


def ask_for(ports: Ports, version: str, champion: str = "base") -> str:
    with ports.database.transaction() as session:
        return wishes.promote(session, Wish(version, champion, "test", "good")).rollout_id


def serving(ports: Ports, lease: Lease, *versions: str) -> None:
    """A settled fleet with these verified, the first of them champion."""
    report(ports)
    carry_out(ports, lease, look(ports))
    rollout_id = ask_for(ports, versions[0])
    report(ports, versions=sorted({"base", *versions}))
    carry_out(ports, lease, look(ports, *versions))
    carry_out(ports, lease, look(ports, *versions))
    with ports.database.reading() as session:
        assert rollouts.get(session, rollout_id).state == RolloutState.DONE


def flip_from_v1_to_v2(ports: Ports, lease: Lease, *, champion: str) -> str:
    """The rollout's id; `champion` is who served in the eyes of whoever asked for it."""
    register(ports, "v1")
    register(ports, "v2")
    serving(ports, lease, "v1", "v2")
    rollout_id = ask_for(ports, "v2", champion=champion)
    carry_out(ports, lease, look(ports, "v1", "v2"))
    return rollout_id


def test_a_flip_moves_table_adapters_and_rollout_together(ports: Ports, lease: Lease) -> None:
    rollout_id = flip_from_v1_to_v2(ports, lease, champion="v1")
    with ports.database.reading() as session:
        table, row = fleet.routing_table(session), rollouts.get(session, rollout_id)
        states = [adapters.get(session, version).state for version in ("v1", "v2")]
        flip = audit.list_entries(session, "default", subject="v2")[0]
    assert table is not None
    assert (table.aliases["assistant"].champion, states) == ("v2", ["retired", "champion"])
    assert (row.state, row.from_version, row.flipped_at is not None) == ("draining", "v1", True)
    assert (flip.action, flip.after["revision"]) == ("rollout.flip", table.revision)


def test_news_of_a_flip_names_whom_it_replaced_whoever_served_when_it_was_asked_for(ports: Ports, lease: Lease) -> None:
    rollout_id = flip_from_v1_to_v2(ports, lease, champion="base")
    with ports.database.reading() as session:
        told = [row.body for row in news.oldest(session, 100) if row.body["rollout_id"] == rollout_id]
    assert [(body["state"], body["from_version"]) for body in told] == [
        ("requested", "base"), ("loading", "base"), ("draining", "v1"),
    ]  # fmt: skip


def test_who_lost_the_lease_changes_nothing(ports: Ports, lease: Lease) -> None:
    register(ports, "v1")
    report(ports, versions=["base", "v1"])
    rollout_id = ask_for(ports, "v1")
    with ports.database.transaction() as session:
        session.get_one(leases.LeaseRow, "controller").epoch += 1
    with pytest.raises(LeaseLost):
        carry_out(ports, lease, look(ports, "v1"))
    with ports.database.reading() as session:
        assert rollouts.get(session, rollout_id).state == RolloutState.REQUESTED
        assert fleet.routing_table(session) is None


def test_a_replica_that_restarted_meanwhile_voids_the_whole_plan(ports: Ports, lease: Lease) -> None:
    register(ports, "v1")
    report(ports, versions=["base"], state=ReplicaState.STARTING)
    ask_for(ports, "v1")
    world = look(ports)
    report(ports, versions=[], state=ReplicaState.STARTING, max_model_len=512)
    with pytest.raises(Conflict, match="replica-0 has moved on"):
        carry_out(ports, lease, world)
    with ports.database.reading() as session:
        assert fleet.routing_table(session) is None


def test_a_refused_version_is_refused_for_good_unless_it_has_served(ports: Ports, lease: Lease) -> None:
    register(ports, "v1")
    register(ports, "v2")
    serving(ports, lease, "v1")
    rollout_id = ask_for(ports, "v2", champion="v1")
    carry_out(ports, lease, look(ports, "v1", refused={"v2": "holds NaN"}))
    with ports.database.reading() as session:
        row, adapter = rollouts.get(session, rollout_id), adapters.get(session, "v2")
    assert (row.state, row.error) == ("failed", "holds NaN")
    assert (adapter.state, adapter.reason) == ("refused", "holds NaN")


def test_another_base_under_the_alias_retires_its_champion_and_says_why(ports: Ports, lease: Lease) -> None:
    register(ports, "v1")
    serving(ports, lease, "v1")
    carry_out(ports, lease, look(ports, "v1", base_revision="fedcba987654"))
    with ports.database.reading() as session:
        table, row = fleet.routing_table(session), adapters.get(session, "v1")
        entry = audit.list_entries(session, "default", subject="assistant")[0]
    assert table is not None
    assert table.aliases["assistant"].champion == "base"
    assert (row.state, row.reason) == ("retired", f"made for base {BASE_REVISION}")
    assert (entry.action, entry.before) == ("routing.rebase", {"champion": "v1"})


def test_a_version_is_verified_on_the_engine_that_was_asked(ports: Ports, lease: Lease) -> None:
    replica = report(ports, versions=["base"])
    with ports.database.transaction() as session:
        mark_verified(session, lease, replica, "v1")
    with ports.database.reading() as session:
        assert fleet.replicas(session)[0].versions == ["base", "v1"]


@pytest.mark.parametrize("change", [{"address": "http://another"}, {"versions": []}], ids=["moved", "restarted"])
def test_a_smoke_on_an_engine_that_restarted_since_counts_for_nothing(
    ports: Ports, lease: Lease, change: dict[str, object]
) -> None:
    replica = report(ports, versions=["base"])
    with ports.database.transaction() as session:
        fleet.report_replica(session, replica.model_copy(update=change))
    with pytest.raises(Conflict, match="has restarted since"), ports.database.transaction() as session:
        mark_verified(session, lease, replica, "v1")


def test_a_rollout_is_overdue_once_its_drain_takes_too_long(ports: Ports, lease: Lease) -> None:
    register(ports, "v1")
    report(ports, versions=["base", "v1"])
    carry_out(ports, lease, look(ports, "v1"))
    ask_for(ports, "v1")
    with ports.database.transaction() as session:
        fleet.report_gateway(session, "g1", "http://gateway", 99, {"base": 1})
    carry_out(ports, lease, look(ports, "v1"))
    [draining] = look(ports, "v1").rollouts
    assert (draining.state, draining.overdue) == (RolloutState.DRAINING, False)
    hasty = ports.settings.serving.model_copy(update={"drain_timeout_s": 1e-9})
    with ports.database.reading() as session:
        world = read_world(
            session, hasty, alias="assistant", base_revision=BASE_REVISION, seen={ADDRESS: None}, refused={}
        )
    assert world.rollouts == [replace(draining, overdue=True)]


def test_only_the_newest_version_that_waits_is_a_candidate(ports: Ports) -> None:
    for version in ("v1", "v2"):
        register(ports, version)
    assert look(ports).candidates == ["v2"]
    register(ports, "v3", AdapterState.BLOCKED)
    assert look(ports).candidates == []
