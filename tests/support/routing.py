"""Routing tables and replicas with every field that a test does not care about filled in."""

from infra.clock import now
from infra.contracts.routing import AliasRoute, Arm, Replica, ReplicaState, RoutingTable, WeightedVersion

BASE_REVISION = "0123456789ab"


def make_route(champion: str = "base", **overrides: object) -> AliasRoute:
    fields: dict[str, object] = {
        "alias": "assistant",
        "base_revision": BASE_REVISION,
        "versions": [WeightedVersion(version=champion, arm=Arm.CHAMPION, weight=1.0)],
    }
    return AliasRoute.model_validate(fields | overrides)


def make_replica(**overrides: object) -> Replica:
    fields: dict[str, object] = {
        "name": "replica-0",
        "address": "http://127.0.0.1:1",
        "base_revision": BASE_REVISION,
        "served_model": "base",
        "state": ReplicaState.READY,
        "versions": ["base"],
        "max_model_len": 1024,
    }
    return Replica.model_validate(fields | overrides)


def make_table(revision: int = 1, champion: str = "base", **overrides: object) -> RoutingTable:
    fields: dict[str, object] = {
        "revision": revision,
        "issued_at": now(),
        "aliases": {"assistant": make_route(champion)},
        "replicas": [make_replica(versions=sorted({"base", champion}))],
    }
    return RoutingTable.model_validate(fields | overrides)
