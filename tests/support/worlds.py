"""Worlds for the reconciler with every field that a test does not care about filled in."""

from collections.abc import Iterable

from infra.contracts.routing import Replica, ReplicaState
from infra.registry.rollouts import RolloutState
from serving.world import GatewayView, ReplicaView, RolloutView, World
from tests.support.routing import BASE_REVISION, make_replica, make_route, make_table


def make_view(*, verified: Iterable[str] = (), loaded: Iterable[str] | None = (), **row: object) -> ReplicaView:
    """A ready replica; `verified` and `loaded` come on top of the base. `loaded` None: it does not answer."""
    replica = make_replica(**{"versions": sorted({"base", *verified}), **row})
    return ReplicaView(replica, None if loaded is None else frozenset({"base", *verified, *loaded}))


def make_starting(*, loaded: Iterable[str] | None = (), **row: object) -> ReplicaView:
    """Registered, nothing verified yet."""
    replica = make_replica(**{"state": ReplicaState.STARTING, "versions": [], **row})
    return ReplicaView(replica, None if loaded is None else frozenset({"base", *loaded}))


def make_rollout(version: str = "v2", state: RolloutState = RolloutState.REQUESTED, **fields: object) -> RolloutView:
    known = {"rollout_id": "r1", "alias": "assistant", "version": version, "state": state}
    return RolloutView(**{**known, **fields})  # type: ignore[arg-type]  # one dict for all fields


def make_gateway(revision: int = 1, **in_flight: int) -> GatewayView:
    return GatewayView(revision, in_flight)


def make_world(champion: str = "base", *, previous: Iterable[str] = (), **fields: object) -> World:
    """A settled one: one replica, ready, with the champion verified, and a table that says so."""
    views: list[ReplicaView] = fields.get("replicas") or [make_view(verified=_adapters(champion))]  # type: ignore[assignment]
    replicas: list[Replica] = [view.row for view in views]
    table = make_table(
        champion=champion,
        aliases={"assistant": make_route(champion, previous=list(previous), rollout_id=fields.pop("rollout_id", None))},
        replicas=replicas,
    )
    known = {"table": table, "alias": "assistant", "base_revision": BASE_REVISION, "replicas": views}
    return World(**{**known, **fields})  # type: ignore[arg-type]  # one dict for all fields


def _adapters(champion: str) -> list[str]:
    return [] if champion == "base" else [champion]
