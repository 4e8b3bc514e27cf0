"""What the reconciler looks at: the registry's wishes and what each replica itself reports, at one moment."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from infra.contracts.rollouts import Look, Step
from infra.contracts.routing import BASE_VERSION, AliasRoute, Replica, RoutingTable, base_version, is_base
from infra.registry.rollouts import ON_TRAFFIC, RolloutState

TRAINING_SLOTS = 2  # of the engine's adapters, for `train-<cycle>-<step>`


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """`row.versions` are those verified on it; `loaded` is its own word, None where it does not answer.

    One that was not `asked` yet stays as it was: a controller that has just started takes no engine out of service.
    """

    row: Replica
    loaded: frozenset[str] | None
    asked: bool = True
    started: float = 0.0  # the engine's own word, in seconds since the epoch


@dataclass(frozen=True, slots=True)
class RolloutView:
    """`overdue`: drained for too long. It counts as done; the unload still waits for the last answer.

    `step` counts from 0; past the last one it flips. `look` is of this step, and was taken after it began.
    """

    rollout_id: str
    alias: str
    version: str
    state: RolloutState
    overdue: bool = False
    from_version: str = BASE_VERSION
    steps: Sequence[Step] = ()
    step: int = 0
    is_rollback: bool = False
    began_at: datetime | None = None
    look: Look | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What an adapter was made for."""

    alias: str
    base_revision: str


@dataclass(frozen=True, slots=True)
class GatewayView:
    """A live gateway: the newest table it applies, and answers under way per version."""

    applied_revision: int
    in_flight: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class World:
    """`base_revision` is that of `serving.model`, `next_base` that of `serving.next_model`, empty where it is not set.

    `candidates` are versions in gating or waiting for a person; `training` are the cycles whose `train-` adapters are
    in use. `made` knows the adapters that are spoken of; any other one is for `base_revision`.
    """

    table: RoutingTable | None
    alias: str
    base_revision: str
    next_base: str = ""
    made: Mapping[str, Made] = field(default_factory=dict)
    replicas: Sequence[ReplicaView] = ()
    rollouts: Sequence[RolloutView] = ()
    gateways: Sequence[GatewayView] = ()
    candidates: Sequence[str] = ()
    training: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)
    slots: int = 4
    may_promote: bool = True

    @property
    def is_moving(self) -> bool:
        """Somebody waits for a load or a flip; a rollout at its step, or in the queue, may stay there for days."""
        waiting = {RolloutState.QUEUED, *ON_TRAFFIC}
        return any(rollout.state not in waiting for rollout in self.rollouts)

    @property
    def routes(self) -> dict[str, AliasRoute]:
        return self.table.aliases if self.table else {}

    @property
    def bases(self) -> frozenset[str]:
        """Whoever has another one answers nobody."""
        return frozenset(filter(None, (self.base_revision, self.next_base)))

    def base_of(self, version: str) -> str:
        """The one base on which a version can be loaded."""
        if is_base(version):
            return version.removeprefix(BASE_VERSION).removeprefix("-") or self.base_revision
        return self.made[version].base_revision if version in self.made else self.base_revision

    def unadapted(self, base_revision: str) -> str:
        """What "no adapter" is called on a replica of that base."""
        return BASE_VERSION if base_revision == self.base_revision else base_version(base_revision)

    @property
    def revision(self) -> int:
        return self.table.revision if self.table else 0


def live(routes: Mapping[str, AliasRoute]) -> list[str]:
    """Versions that users may get, the base left out: it needs no adapter."""
    return _distinct(entry.version for route in routes.values() for entry in route.versions if entry.weight > 0)


def champions(routes: Mapping[str, AliasRoute]) -> list[str]:
    """Without which a replica answers nobody. A challenger's traffic goes to those replicas that have it."""
    return _distinct(route.champion for route in routes.values())


def wanted(world: World, base_revision: str | None = None) -> list[str]:
    """What every replica of that base should hold (None: of `serving.model`), the most urgent first. Live versions and
    a rollout's target always count; what else fits: candidates, then what each alias served before, so that a rollback
    needs no load."""
    on = base_revision or world.base_revision
    needed = _needed(world, on)
    before = [list(route.previous) for route in world.routes.values()]
    latest = [versions[0] for versions in before if versions]
    older = [version for versions in before for version in versions[1:]]
    optional = _distinct([*world.candidates[:1], *latest, *world.candidates[1:], *older])
    room = max(0, world.slots - len(needed))
    return needed + [v for v in optional if v not in needed and world.base_of(v) == on][:room]


def too_many(world: World, base_revision: str | None = None) -> str | None:
    """Why nothing more can be rolled out on that base: to make room a live version would have to leave the engine's
    slots."""
    needed = _needed(world, base_revision or world.base_revision)
    if len(needed) <= world.slots:
        return None
    return (
        f"{', '.join(needed)} need {len(needed)} slots of an engine and there are {world.slots} beside those for "
        "training: raise serving.max_loras, or end another rollout"
    )


def misfit(world: World, alias: str, version: str, *, is_rollback: bool = False) -> str | None:
    """Why this alias can't have it: forwards means on its own base or on to the next one; back goes to any base that is
    served still."""
    base, route = world.base_of(version), world.routes.get(alias)
    on = route.base_revision if route and route.base_revision in world.bases else world.base_revision
    if base in (world.bases if is_rollback else {on, world.next_base}):
        return None
    following = f"the next one is {world.next_base}" if world.next_base else "serving.next_model is not set"
    return f"{version} was trained on base {base}, {alias} is on {on} and {following}"


def misfits(world: World) -> dict[str, str]:
    """Candidates that no gate needs to look at, and why."""
    known = [(version, world.made[version].alias) for version in world.candidates if version in world.made]
    reasons = {version: misfit(world, alias, version) for version, alias in known}
    return {version: reason for version, reason in reasons.items() if reason}


def _needed(world: World, base_revision: str) -> list[str]:
    """What must not leave an engine: what users get, and what is on its way to them; who is queued can wait."""
    going = [rollout.version for rollout in world.rollouts if rollout.state is not RolloutState.QUEUED]
    return [version for version in _distinct([*live(world.routes), *going]) if world.base_of(version) == base_revision]


def _distinct(versions: Iterable[str]) -> list[str]:
    return [version for version in dict.fromkeys(versions) if not is_base(version)]
