"""Which version answers this request, and which replica: the routing table applied, and what is under way counted."""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

from gateway.errors import EngineAway, EngineBroke, NotFound, Unavailable
from infra.contracts.events import SHADOW
from infra.contracts.routing import AliasRoute, Arm, Replica, ReplicaState, RoutingTable, WeightedVersion, is_base

TRAINING_PREFIX = "train-"  # adapters under training are loaded for samples, never for users
SLACK = 1  # answers that a replica may have under way beyond the least busy one and still be the first to ask
AVOID_S = 2.0
PAIR = "pair"  # the arm of an answer that has a choice of each arm
PINNED = "pinned"  # of an answer whose version the client chose
OPTED_OUT = "opted_out"  # and of one whose client takes part in no rollout
FIRST = 0.5  # the chance of either arm to be the first choice of a pair
Fraction = Callable[[str, str], float]  # (salt, unit) -> [0, 1): Identity.fraction


@dataclass(frozen=True, slots=True)
class Target:
    """What one request was given. `propensity` is the chance that this version had to be drawn.

    `sides` are those of a pair by the index of their choice; the version of the pair itself is the champion.
    """

    alias: str
    version: str
    arm: str
    propensity: float
    base_revision: str
    rollout_id: str | None
    rollout_step: int | None  # None: it is no evidence about a rollout
    revision: int
    sides: tuple["Target", ...] = ()

    def side(self, index: int) -> "Target":
        """Who wrote this choice."""
        return self.sides[index] if self.sides else self

    @property
    def versions(self) -> list[str]:
        return [side.version for side in self.sides] or [self.version]


class Router:
    """Holds the table in use. Choosing and counting happen in one step of the event loop, so that a heartbeat which
    reports a revision also reports every answer that began before it."""

    def __init__(self, fraction: Fraction) -> None:
        self._fraction = fraction
        self.table: RoutingTable | None = None
        self.stale = False  # the table could not be read for too long: the champion answers everything
        self.in_flight: Counter[str] = Counter()
        self.news = asyncio.Event()  # what a rollout waits for: another table applied, a version left behind answered
        self._outstanding: Counter[str] = Counter()
        self._avoided: dict[str, float] = {}  # replica -> until when, monotonic

    @property
    def revision(self) -> int:
        return self.table.revision if self.table else 0

    @property
    def has_ready_replica(self) -> bool:
        return any(replica.state is ReplicaState.READY for replica in self._current().replicas)

    def apply(self, table: RoutingTable) -> None:
        self.table = table
        self._avoided = {name: until for name, until in self._avoided.items() if until > time.monotonic()}
        self.news.set()

    def choose(self, model: str, unit: str, *, admin: bool = False, takes_part: bool = True) -> Target:
        """Raises NotFound for a name this caller may not use, Unavailable before the first table."""
        table = self._current()
        if route := table.aliases.get(model):
            if not takes_part:
                return _certain(table, route, arm=OPTED_OUT)
            if self.stale:
                return _certain(table, route)
            return _target(table, route, draw(route.versions, self._fraction(route.salt, unit)))
        route = pinned_route(table, model, admin=admin)
        entry = WeightedVersion(version=model, arm=Arm.CHAMPION, weight=1.0)
        return _target(table, route, entry, arm=PINNED, is_evidence=False)

    def pair(self, model: str, response_id: str) -> Target | None:
        """A choice of each arm, for a share of the requests for two; drawn apart from whatever a rater sticks to."""
        table = self._current()
        route = table.aliases.get(model)
        if self.stale or route is None or route.challenger is None:
            return None
        if self._fraction(f"pair {route.salt}", response_id) >= route.pairs:
            return None
        first = self._fraction(f"side {route.salt}", response_id) < FIRST
        return _pair(table, route, challenger_first=first)

    def mirrors(self, shown: Target, unit: str) -> list[Target]:
        """The versions that answer this request too, as long as the step that it was answered in goes on."""
        table = self._current()
        route = table.aliases.get(shown.alias)
        if self.stale or route is None or shown.rollout_step is None:
            return []
        if (route.rollout_id, route.rollout_step) != (shown.rollout_id, shown.rollout_step):
            return []
        return [
            _shadow(table, route, version)
            for version, share in route.mirrors.items()
            if self._fraction(f"mirror {route.salt} {version}", unit) < share
        ]

    def champion(self, target: Target) -> Target:
        """Where an answer goes whose version the engine no longer has."""
        table = self._current()
        route = table.aliases.get(target.alias)
        if route is None:
            raise Unavailable(f"{target.alias} is not served any more")
        return _certain(table, route)

    def replicas(self, version: str) -> list[Replica]:
        """Those that can answer, where to ask first in front; what failed a moment ago comes last."""
        able = [replica for replica in self._current().replicas if _serves(replica, version)]
        ordered = spread(able, self._outstanding, version)
        return sorted(ordered, key=self._has_failed)

    @contextmanager
    def counting(self, *versions: str) -> Iterator[None]:
        """Answers of these versions are under way."""
        self.in_flight.update(versions)
        try:
            yield
        finally:
            for version in versions:
                _decrement(self.in_flight, version)
            if any(version not in self.in_flight and not self._is_routed(version) for version in versions):
                self.news.set()

    @contextmanager
    def occupying(self, replica: Replica) -> Iterator[None]:
        """One that can't be reached or breaks off is asked last for a moment: the controller notices later."""
        self._outstanding[replica.name] += 1
        try:
            yield
        except (EngineAway, EngineBroke):
            self._avoided[replica.name] = time.monotonic() + AVOID_S
            raise
        finally:
            _decrement(self._outstanding, replica.name)

    def _has_failed(self, replica: Replica) -> bool:
        return self._avoided.get(replica.name, 0.0) > time.monotonic()

    def _is_routed(self, version: str) -> bool:
        routes = self.table.aliases.values() if self.table else ()
        return any(entry.version == version for route in routes for entry in route.versions)

    def _current(self) -> RoutingTable:
        if self.table is None:
            raise Unavailable("nothing is served yet: the routing table has not been published")
        return self.table


def spread(able: Sequence[Replica], outstanding: Mapping[str, int], version: str) -> list[Replica]:
    """The least busy first, but of those within `SLACK` answers of it the one where this version is at home: its prefix
    cache and its adapter are warm there. Each version has its own order of replicas (rendezvous hashing, Thaler and
    Ravishankar 1998), which a replica that comes or goes hardly changes."""
    if not able:
        return []
    idle = min(outstanding.get(replica.name, 0) for replica in able)

    def order(replica: Replica) -> tuple[int, int]:
        busy = outstanding.get(replica.name, 0)
        return (0 if busy <= idle + SLACK else busy), closeness(version, replica.name)

    return sorted(able, key=order)


@lru_cache(4096)
def closeness(version: str, replica: str) -> int:
    """The smaller the closer; the same in every gateway."""
    return int.from_bytes(hashlib.blake2b(f"{version}\n{replica}".encode(), digest_size=8).digest())


def draw(versions: Sequence[WeightedVersion], fraction: float) -> WeightedVersion:
    """The version whose share of [0, 1) holds the fraction; rounding leaves the last one the rest."""
    reached = 0.0
    for entry in versions:
        reached += entry.weight
        if fraction < reached:
            return entry
    return next(entry for entry in reversed(versions) if entry.weight > 0)


def pinned_route(table: RoutingTable, version: str, *, admin: bool) -> AliasRoute:
    """The alias whose version was asked for by name; raises NotFound."""
    for route in table.aliases.values():
        if any(entry.version == version for entry in route.versions):
            return route
    if admin and not version.startswith(TRAINING_PREFIX):
        for route in table.aliases.values():
            if is_base(version) or version in route.previous or _loaded_for(table, route, version):
                return route
    raise NotFound(f"The model `{version}` does not exist.", param="model", code="model_not_found")


def _loaded_for(table: RoutingTable, route: AliasRoute, version: str) -> bool:
    return version.startswith(f"{route.alias}-") and any(version in replica.versions for replica in table.replicas)


def _serves(replica: Replica, version: str) -> bool:
    """Only what was verified there, "no adapter" too: another base answers to other names."""
    return replica.state is ReplicaState.READY and replica.has(version)


def _certain(table: RoutingTable, route: AliasRoute, *, arm: str | None = None) -> Target:
    """The champion, whoever asks: such an answer says nothing about a rollout."""
    entry = WeightedVersion(version=route.champion, arm=Arm.CHAMPION, weight=1.0)
    return _target(table, route, entry, arm=arm, is_evidence=False)


def _target(
    table: RoutingTable,
    route: AliasRoute,
    entry: WeightedVersion,
    *,
    arm: str | None = None,
    is_evidence: bool = True,
) -> Target:
    return Target(
        alias=route.alias,
        version=entry.version,
        arm=arm or entry.arm.value,
        propensity=entry.weight,
        base_revision=table.base_of(entry.version) or route.base_revision,
        rollout_id=route.rollout_id,
        rollout_step=route.rollout_step if is_evidence else None,
        revision=table.revision,
    )


def _pair(table: RoutingTable, route: AliasRoute, *, challenger_first: bool) -> Target:
    """Both arms were certain, only their places were drawn. On two bases it names both, so that nobody takes its tokens
    for those of one."""
    sides = [
        _target(table, route, entry.model_copy(update={"weight": FIRST}))
        for arm in (Arm.CHAMPION, Arm.CHALLENGER)
        for entry in route.versions
        if entry.arm is arm
    ]
    champion, challenger = sides[0], sides[1]
    ordered = (challenger, champion) if challenger_first else (champion, challenger)
    bases = "+".join(dict.fromkeys(side.base_revision for side in sides))
    return replace(champion, arm=PAIR, propensity=route.pairs, base_revision=bases, sides=ordered)


def _shadow(table: RoutingTable, route: AliasRoute, version: str) -> Target:
    entry = WeightedVersion(version=version, arm=Arm.CHALLENGER, weight=route.mirrors[version])
    return _target(table, route, entry, arm=SHADOW)


def _decrement(counter: Counter[str], name: str) -> None:
    counter[name] -= 1
    if counter[name] <= 0:
        del counter[name]
