"""The routing table: the one document that says which version answers whom."""

import re
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from infra.contracts.base import SCHEMA_VERSION, Contract, SchemaVersion
from infra.contracts.rollouts import Step, StepKind

BASE_VERSION = "base"  # "no adapter" is a version too: on the base that serving.model names
NAMED_BASE = re.compile(rf"{BASE_VERSION}-[0-9a-f]{{12}}")  # and on the one of that revision
KEPT = 8  # earlier versions that a route still names


def base_version(base_revision: str) -> str:
    """What "no adapter" on that base is called, whichever base the settings name."""
    return f"{BASE_VERSION}-{base_revision}"


def is_base(version: str) -> bool:
    return version == BASE_VERSION or NAMED_BASE.fullmatch(version) is not None


class Arm(StrEnum):
    CHAMPION = "champion"
    CHALLENGER = "challenger"


class ReplicaState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    DOWN = "down"


class Replica(Contract):
    """One engine process. `served_model` is the name the engine knows the base under; `versions` are verified on it:
    "no adapter" by the one name that the controller gives its base, then adapters that were made for that base.

    `engine_started` is the engine's own word, in seconds since the epoch: at the same address another one may answer
    tomorrow. One that was `discovered` has no `base_revision` until it has shown by what it computes which one it has.
    """

    name: str
    address: str
    base_revision: str
    served_model: str
    state: ReplicaState
    versions: list[str] = []
    max_model_len: int = 0
    engine_started: float = 0.0
    discovered: bool = False  # somebody else started it
    drain: bool = False  # an operator wants nothing new sent to it

    def has(self, version: str) -> bool:
        """Whether it was verified there; once anything is, the base is too, also by the name of its revision."""
        return version in self.versions or (bool(self.versions) and version == base_version(self.base_revision))

    def name_of(self, version: str) -> str:
        """What its engine calls a version that it has."""
        return self.served_model if is_base(version) else version


class WeightedVersion(Contract):
    version: str
    arm: Arm
    weight: float


class AliasRoute(Contract):
    """Weights sum to 1. `salt` keys the sticky assignment and changes only with the rollout. The champion comes first,
    so that a growing share keeps those who are in it."""

    alias: str
    base_revision: str
    versions: list[WeightedVersion]
    previous: list[str] = []  # still loaded, answered only when pinned
    rollout_id: str | None = None
    rollout_step: int | None = None  # None: no rollout is under way
    mirrors: dict[str, float] = {}  # version -> share of the requests that it answers too, for nobody to see
    pairs: float = 0  # of requests for two answers, those that get one of each arm
    salt: str = ""

    @property
    def champion(self) -> str:
        return next(entry.version for entry in self.versions if entry.arm is Arm.CHAMPION)

    @property
    def challenger(self) -> str | None:
        return next((entry.version for entry in self.versions if entry.arm is Arm.CHALLENGER), None)

    def flipped(self, version: str, rollout_id: str, base_revision: str | None = None) -> Self:
        """`version` answers everybody, from now on on that base; None: on the same."""
        on = base_revision or self.base_revision
        before = [self.seen_from(known, on) for known in (self.champion, *self.previous)]
        previous = [known for known in dict.fromkeys(before) if known != version]
        return self._to(
            _champion(version, 1.0), previous=previous[:KEPT], rollout_id=rollout_id, salt=rollout_id, base_revision=on
        )

    def seen_from(self, version: str, base_revision: str) -> str:
        """The name that it keeps when the alias moves to that base: `base` alone will soon mean the new one."""
        stays = version != BASE_VERSION or base_revision == self.base_revision
        return version if stays else base_version(self.base_revision)

    def stepped(self, version: str, rollout_id: str, number: int, step: Step) -> Self:
        """`version` meets the traffic of one step; the share of an earlier step is part of a later, larger one."""
        named = {"rollout_id": rollout_id, "salt": rollout_id, "rollout_step": number}
        if step.kind is StepKind.SHADOW:
            return self._to(_champion(self.champion, 1.0), mirrors={version: step.share}, **named)
        challenger = WeightedVersion(version=version, arm=Arm.CHALLENGER, weight=step.share)
        return self._to(_champion(self.champion, 1.0 - step.share), challenger, pairs=step.pairs, **named)

    def without(self, rollout_id: str) -> Self:
        """The champion answers everybody again, where that rollout has any traffic."""
        is_stepping = self.rollout_id == rollout_id and self.rollout_step is not None
        return self._to(_champion(self.champion, 1.0)) if is_stepping else self

    def _to(self, *versions: WeightedVersion, **fields: Any) -> Self:
        nothing: dict[str, Any] = {"rollout_step": None, "mirrors": {}, "pairs": 0.0}
        return self.model_copy(update={**nothing, "versions": list(versions), **fields})


def _champion(version: str, weight: float) -> WeightedVersion:
    return WeightedVersion(version=version, arm=Arm.CHAMPION, weight=weight)


class RoutingTable(Contract):
    schema_version: SchemaVersion = SCHEMA_VERSION
    revision: int
    issued_at: datetime
    aliases: dict[str, AliasRoute]
    replicas: list[Replica]

    def base_of(self, version: str) -> str | None:
        """The base that it stands on: that of the replicas which have it. None where none has."""
        return next((replica.base_revision for replica in self.replicas if replica.has(version)), None)
