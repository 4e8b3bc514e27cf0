"""Wanted against loaded: what changes next, as a pure function of what is so now. It remembers nothing, so that a
controller killed anywhere is simply followed by one that looks again."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from infra.contracts.routing import (
    BASE_VERSION,
    AliasRoute,
    Arm,
    Replica,
    ReplicaState,
    RoutingTable,
    WeightedVersion,
)
from infra.registry.rollouts import RolloutState
from serving.world import ReplicaView, RolloutView, World, live, too_many, wanted

TRAINING = re.compile(r"train-(?P<cycle>.+)-[^-]+")
KEPT = 8  # earlier versions that a route still names


@dataclass(frozen=True, slots=True)
class Move:
    """A rollout goes on to `target`; DRAINING is the flip."""

    rollout_id: str
    target: RolloutState
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Prepare:
    """Fetch, validate, load, smoke: then the version is verified on that replica."""

    replica: Replica
    version: str

    @property
    def name(self) -> str:
        return self.version


@dataclass(frozen=True, slots=True)
class Unload:
    replica: Replica
    name: str


@dataclass(frozen=True, slots=True)
class Identify:
    """Does this engine compute what this base does? Then it is one of ours."""

    replica: Replica
    name: str = BASE_VERSION


@dataclass(frozen=True, slots=True)
class Recheck:
    """Does it still compute what was verified on it?"""

    replica: Replica
    name: str = "recheck"


Job = Prepare | Unload | Identify | Recheck


@dataclass(frozen=True, slots=True)
class Plan:
    """`replicas` (those that changed), `moves` and `table` (None: unchanged) are one transaction; jobs run beside."""

    replicas: Sequence[Replica]
    moves: Sequence[Move]
    table: RoutingTable | None
    jobs: Sequence[Job]


def plan(world: World, at: datetime) -> Plan:
    keep = wanted(world)
    replicas = [_observed(view, world, keep) for view in world.replicas]
    moves = [move for rollout in world.rollouts for move in _moves(rollout, world, replicas)]
    table = _next_table(world, replicas, _flipped(world, moves), at)
    changed = [new for new, view in zip(replicas, world.replicas, strict=True) if new != view.row]
    return Plan(changed, moves, table, list(_jobs(world, keep)))


def _observed(view: ReplicaView, world: World, keep: Sequence[str]) -> Replica:
    """The row as it should read: down where it does not answer, ready once every live version is verified.

    An engine that is not the one which was verified begins anew, whatever it says it has loaded.
    """
    row = view.row
    if not view.asked:
        return row
    if view.loaded is None:
        state = ReplicaState.STARTING if row.state is ReplicaState.STARTING else ReplicaState.DOWN
        return row.model_copy(update={"state": state, "versions": []})
    if row.engine_started != view.started:
        anew = {"engine_started": view.started, "versions": [], **({"base_revision": ""} if row.discovered else {})}
        row = row.model_copy(update=anew)
    fits = row.base_revision == world.base_revision
    verified = {BASE_VERSION, *(v for v in row.versions if v in view.loaded and v in keep)} if fits else set()
    state = ReplicaState.READY if fits and verified.issuperset(live(world.routes)) else ReplicaState.STARTING
    state = ReplicaState.DRAINING if row.drain else state
    return row.model_copy(update={"state": state, "versions": sorted(verified)})


def _moves(rollout: RolloutView, world: World, replicas: Sequence[Replica]) -> Iterator[Move]:
    if rollout.state is RolloutState.DRAINING:
        if rollout.overdue or _drained(rollout, world):
            yield Move(rollout.rollout_id, RolloutState.DONE)
        return
    if reason := world.refused.get(rollout.version):
        yield Move(rollout.rollout_id, RolloutState.FAILED, reason)
        return
    if rollout.state is RolloutState.REQUESTED:
        if reason := too_many(world):
            yield Move(rollout.rollout_id, RolloutState.FAILED, reason)
            return
        yield Move(rollout.rollout_id, RolloutState.LOADING)
    if world.table is not None and verified_everywhere(rollout.version, replicas):
        yield Move(rollout.rollout_id, RolloutState.DRAINING)


def verified_everywhere(version: str, replicas: Sequence[Replica]) -> bool:
    """On each replica that answers and stays, and on one at least; the base needs none."""
    answering = [r for r in replicas if BASE_VERSION in r.versions and r.state is not ReplicaState.DRAINING]
    return version == BASE_VERSION or (bool(answering) and all(version in r.versions for r in answering))


def _drained(rollout: RolloutView, world: World) -> bool:
    """Every live gateway goes by this table, and answers nothing with what the flip replaced."""
    route = world.routes.get(rollout.alias)
    if route is None or route.rollout_id != rollout.rollout_id:
        return True  # superseded: the later rollout waits for the gateways
    return all(is_clear(world, version) for version in route.previous[:1])


def is_clear(world: World, version: str) -> bool:
    """No gateway can send this version another request, and none has one under way."""
    return all(g.applied_revision >= world.revision and not g.in_flight.get(version) for g in world.gateways)


def _flipped(world: World, moves: Sequence[Move]) -> dict[str, AliasRoute]:
    routes = {world.alias: new_route(world.alias, world.base_revision), **world.routes}
    flipping = {move.rollout_id for move in moves if move.target is RolloutState.DRAINING}
    for rollout in world.rollouts:
        if rollout.rollout_id in flipping and rollout.alias in routes:
            routes[rollout.alias] = _flip(routes[rollout.alias], rollout)
    return {name: _on_base(route, world.base_revision) for name, route in routes.items()}


def rechecks(world: World) -> list[Recheck]:
    """Of whoever answers users; how often is not decided here."""
    return [Recheck(view.row) for view in world.replicas if view.row.state is ReplicaState.READY and view.loaded]


def new_route(alias: str, base_revision: str) -> AliasRoute:
    """The base with no adapter answers everybody."""
    champion = WeightedVersion(version=BASE_VERSION, arm=Arm.CHAMPION, weight=1.0)
    return AliasRoute(alias=alias, base_revision=base_revision, versions=[champion])


def _flip(route: AliasRoute, rollout: RolloutView) -> AliasRoute:
    champion = WeightedVersion(version=rollout.version, arm=Arm.CHAMPION, weight=1.0)
    previous = [version for version in (route.champion, *route.previous) if version != rollout.version]
    fields = {"versions": [champion], "previous": list(dict.fromkeys(previous))[:KEPT]}
    return route.model_copy(update={**fields, "rollout_id": rollout.rollout_id, "salt": rollout.rollout_id})


def _on_base(route: AliasRoute, base_revision: str) -> AliasRoute:
    """Adapters fit one base: with another one under it an alias starts again from no adapter."""
    return route if route.base_revision == base_revision else new_route(route.alias, base_revision)


def _next_table(
    world: World, replicas: Sequence[Replica], routes: Mapping[str, AliasRoute], at: datetime
) -> RoutingTable | None:
    """None where the published one says the same."""
    if world.table and world.table.aliases == routes and world.table.replicas == list(replicas):
        return None
    return RoutingTable(revision=world.revision + 1, issued_at=at, aliases=dict(routes), replicas=list(replicas))


def _jobs(world: World, keep: Sequence[str]) -> Iterator[Job]:
    """What was said of an engine before it restarted is not acted on: its row is put right first."""
    for view in world.replicas:
        if view.loaded is None or view.row.engine_started != view.started:
            continue
        if view.row.discovered and not view.row.base_revision:
            yield Identify(view.row)
        if view.row.base_revision == world.base_revision:
            yield from _jobs_of(view.row, view.loaded, world, keep)


def _jobs_of(row: Replica, loaded: frozenset[str], world: World, keep: Sequence[str]) -> Iterator[Job]:
    needed = set(live(world.routes))
    for version in keep:
        if version not in row.versions and not row.drain and (version in needed or version not in world.refused):
            yield Prepare(row, version)
    for name in sorted(loaded - {row.served_model, BASE_VERSION, *keep}):
        if _may_go(world, name):
            yield Unload(row, name)


def _may_go(world: World, name: str) -> bool:
    """Training's own names go with their cycle; others once no gateway can ask for them."""
    if training := TRAINING.fullmatch(name):
        return training["cycle"] not in world.training
    listed = world.table is not None and any(name in replica.versions for replica in world.table.replicas)
    return not listed and is_clear(world, name)
