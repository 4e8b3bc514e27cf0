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
    is_base,
)
from infra.registry.rollouts import ON_TRAFFIC, RolloutState
from serving.steps import next_turn
from serving.world import ReplicaView, RolloutView, World, champions, live, misfit, too_many, wanted

TRAINING = re.compile(r"train-(?P<cycle>.+)-[^-]+")


@dataclass(frozen=True, slots=True)
class Move:
    """A rollout goes on to `target`: DRAINING is the flip, RUNNING a `step`. `reason`: why, where it isn't obvious."""

    rollout_id: str
    target: RolloutState
    reason: str | None = None
    step: int | None = None


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
    """Does this engine compute what one of the bases does? Then it is one of ours."""

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
    keep = {base: wanted(world, base) for base in world.bases}
    replicas = [_observed(view, world, keep) for view in world.replicas]
    moves = [move for rollout in world.rollouts for move in _moves(rollout, world, replicas, at)]
    table = _next_table(world, replicas, _rerouted(world, moves), at)
    changed = [new for new, view in zip(replicas, world.replicas, strict=True) if new != view.row]
    return Plan(changed, moves, table, list(_jobs(world, keep)))


def _observed(view: ReplicaView, world: World, keep: Mapping[str, Sequence[str]]) -> Replica:
    """The row as it should read: down where it does not answer, ready once every champion on its base is verified."""
    row = view.row
    if not view.asked:
        return row
    if view.loaded is None:
        state = ReplicaState.STARTING if row.state is ReplicaState.STARTING else ReplicaState.DOWN
        return row.model_copy(update={"state": state, "versions": []})
    if row.engine_started != view.started:
        anew = {"engine_started": view.started, "versions": [], **({"base_revision": ""} if row.discovered else {})}
        row = row.model_copy(update=anew)
    on = row.base_revision
    kept = {v for v in row.versions if v in view.loaded and v in keep.get(on, ())}
    verified = {world.unadapted(on), *kept} if on in keep else set()
    needed = [version for version in champions(world.routes) if world.base_of(version) == on]
    state = ReplicaState.READY if verified and verified.issuperset(needed) else ReplicaState.STARTING
    state = ReplicaState.DRAINING if row.drain else state
    return row.model_copy(update={"state": state, "versions": sorted(verified)})


def _moves(rollout: RolloutView, world: World, replicas: Sequence[Replica], at: datetime) -> Iterator[Move]:
    if rollout.state is not RolloutState.DRAINING and (reason := _misfit(rollout, world)):
        lost = RolloutState.ABORTED if rollout.state in ON_TRAFFIC else RolloutState.FAILED
        yield Move(rollout.rollout_id, lost, reason)
        return
    match rollout.state:
        case RolloutState.QUEUED:
            yield from _dequeued(rollout, world)
        case RolloutState.REQUESTED | RolloutState.LOADING:
            yield from _loaded(rollout, world, replicas)
        case RolloutState.RUNNING | RolloutState.PAUSED | RolloutState.AWAITING_PERSON:
            yield from _stepped(rollout, world, replicas, at)
        case RolloutState.DRAINING if rollout.overdue or _drained(rollout, world):
            yield Move(rollout.rollout_id, RolloutState.DONE)


def _misfit(rollout: RolloutView, world: World) -> str | None:
    route = world.routes.get(rollout.alias)
    if rollout.state in ON_TRAFFIC and route and route.base_revision not in world.bases:
        return f"{rollout.alias} starts again on base {world.base_revision}: {route.base_revision} is served no more"
    return misfit(world, rollout.alias, rollout.version, is_rollback=rollout.is_rollback)


def _dequeued(rollout: RolloutView, world: World) -> Iterator[Move]:
    """Its gates have compared it with a champion that may be gone by now."""
    others = [other for other in world.rollouts if other.alias == rollout.alias]
    under_way = [other for other in others if other.state is not RolloutState.QUEUED]
    if under_way or others[0] is not rollout:
        return
    route = world.routes.get(rollout.alias)
    if route is None or route.champion == rollout.from_version:
        yield Move(rollout.rollout_id, RolloutState.REQUESTED)
    else:
        reason = f"its gates compared it with {rollout.from_version}, the champion is {route.champion} by now"
        yield Move(rollout.rollout_id, RolloutState.FAILED, reason)


def _loaded(rollout: RolloutView, world: World, replicas: Sequence[Replica]) -> Iterator[Move]:
    if reason := world.refused.get(rollout.version):
        yield Move(rollout.rollout_id, RolloutState.FAILED, reason)
        return
    if rollout.state is RolloutState.REQUESTED:
        if reason := too_many(world, world.base_of(rollout.version)):
            yield Move(rollout.rollout_id, RolloutState.FAILED, reason)
            return
        yield Move(rollout.rollout_id, RolloutState.LOADING)
    if world.table is None or not _has_arrived(rollout, world, replicas):
        return
    if rollout.step < len(rollout.steps):
        yield Move(rollout.rollout_id, RolloutState.RUNNING, step=rollout.step)
    else:
        yield Move(rollout.rollout_id, RolloutState.DRAINING)


def _stepped(rollout: RolloutView, world: World, replicas: Sequence[Replica], at: datetime) -> Iterator[Move]:
    """The last step lasts until the version is everywhere again: a flip to what no replica has would answer nobody."""
    if reason := world.refused.get(rollout.version):
        yield Move(rollout.rollout_id, RolloutState.ABORTED, reason)
    elif turn := next_turn(rollout, at, may_promote=world.may_promote):
        if turn.target is RolloutState.DRAINING and not _has_arrived(rollout, world, replicas):
            return
        step = rollout.step + 1 if turn.target is RolloutState.RUNNING else None
        yield Move(rollout.rollout_id, turn.target, turn.reason, step)


def _has_arrived(rollout: RolloutView, world: World, replicas: Sequence[Replica]) -> bool:
    """No adapter on the base that the alias is on needs no replica: whichever comes has it."""
    base, route = world.base_of(rollout.version), world.routes.get(rollout.alias)
    stays = route is None or route.base_revision == base
    return (stays and is_base(rollout.version)) or verified_everywhere(rollout.version, replicas, base)


def verified_everywhere(version: str, replicas: Sequence[Replica], base_revision: str) -> bool:
    """On each replica of its base that answers and stays, and on one at least."""
    answering = [r for r in replicas if r.base_revision == base_revision and r.versions]
    staying = [r for r in answering if r.state is not ReplicaState.DRAINING]
    return bool(staying) and all(replica.has(version) for replica in staying)


def _drained(rollout: RolloutView, world: World) -> bool:
    """Every live gateway goes by this table, and answers nothing with what the flip replaced."""
    route = world.routes.get(rollout.alias)
    if route is None or route.rollout_id != rollout.rollout_id:
        return True  # superseded: the later rollout waits for the gateways
    left = set(route.previous[:1])
    left |= {BASE_VERSION} if any(map(is_base, left)) else set()  # as it was called before the flip
    return all(is_clear(world, version) for version in left)


def is_clear(world: World, version: str) -> bool:
    """No gateway can send this version another request, and none has one under way."""
    return all(g.applied_revision >= world.revision and not g.in_flight.get(version) for g in world.gateways)


def _rerouted(world: World, moves: Sequence[Move]) -> dict[str, AliasRoute]:
    routes = {world.alias: new_route(world.alias, world.base_revision), **world.routes}
    by_id = {rollout.rollout_id: rollout for rollout in world.rollouts}
    for move in moves:
        rollout = by_id[move.rollout_id]
        if rollout.alias in routes:
            routes[rollout.alias] = _moved(routes[rollout.alias], rollout, move, world.base_of(rollout.version))
    return {name: _on_base(route, world) for name, route in routes.items()}


def rechecks(world: World) -> list[Recheck]:
    """Of whoever answers users; how often is not decided here."""
    ours = [view for view in world.replicas if view.loaded and view.row.base_revision in world.bases]
    return [Recheck(view.row) for view in ours if view.row.state is ReplicaState.READY]


def _moved(route: AliasRoute, rollout: RolloutView, move: Move, base_revision: str) -> AliasRoute:
    match move.target:
        case RolloutState.DRAINING:
            return route.flipped(rollout.version, rollout.rollout_id, base_revision)
        case RolloutState.RUNNING if move.step is not None:
            return route.stepped(rollout.version, rollout.rollout_id, move.step, rollout.steps[move.step])
        case RolloutState.ABORTED | RolloutState.FAILED:
            return route.without(rollout.rollout_id)
        case _:
            return route


def new_route(alias: str, base_revision: str) -> AliasRoute:
    """The base with no adapter answers everybody."""
    champion = WeightedVersion(version=BASE_VERSION, arm=Arm.CHAMPION, weight=1.0)
    return AliasRoute(alias=alias, base_revision=base_revision, versions=[champion])


def _on_base(route: AliasRoute, world: World) -> AliasRoute:
    """Adapters fit one base: where its own is no longer served an alias starts again from no adapter."""
    return route if route.base_revision in world.bases else new_route(route.alias, world.base_revision)


def _next_table(
    world: World, replicas: Sequence[Replica], routes: Mapping[str, AliasRoute], at: datetime
) -> RoutingTable | None:
    """None where the published one says the same."""
    if world.table and world.table.aliases == routes and world.table.replicas == list(replicas):
        return None
    return RoutingTable(revision=world.revision + 1, issued_at=at, aliases=dict(routes), replicas=list(replicas))


def _jobs(world: World, keep: Mapping[str, Sequence[str]]) -> Iterator[Job]:
    """What was said of an engine before it restarted is not acted on: its row is put right first."""
    for view in world.replicas:
        if view.loaded is None or view.row.engine_started != view.started:
            continue
        if view.row.discovered and not view.row.base_revision:
            yield Identify(view.row)
        if view.row.base_revision in keep:
            yield from _jobs_of(view.row, view.loaded, world, keep[view.row.base_revision])


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
