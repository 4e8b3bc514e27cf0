"""The routing table: the one document that says which version answers whom."""

from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from infra.contracts.base import SCHEMA_VERSION, Contract, SchemaVersion
from infra.contracts.rollouts import Step, StepKind

BASE_VERSION = "base"  # "no adapter" is a version too
KEPT = 8  # earlier versions that a route still names


class Arm(StrEnum):
    CHAMPION = "champion"
    CHALLENGER = "challenger"


class ReplicaState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    DOWN = "down"


class Replica(Contract):
    """One engine process. `served_model` is the name the engine knows the base under; `versions` are verified on it.

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

    def flipped(self, version: str, rollout_id: str) -> Self:
        """`version` answers everybody."""
        previous = [known for known in (self.champion, *self.previous) if known != version]
        return self._to(
            _champion(version, 1.0), previous=list(dict.fromkeys(previous))[:KEPT], rollout_id=rollout_id,
            salt=rollout_id,
        )  # fmt: skip

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
