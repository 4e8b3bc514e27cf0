"""The routing table: the one document that says which version answers whom."""

from datetime import datetime
from enum import StrEnum

from infra.contracts.base import SCHEMA_VERSION, Contract, SchemaVersion

BASE_VERSION = "base"  # "no adapter" is a version too


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
    """Weights sum to 1. `salt` keys the sticky assignment and changes only with the rollout."""

    alias: str
    base_revision: str
    versions: list[WeightedVersion]
    previous: list[str] = []  # still loaded, answered only when pinned
    rollout_id: str | None = None
    salt: str = ""

    @property
    def champion(self) -> str:
        return next(entry.version for entry in self.versions if entry.arm is Arm.CHAMPION)


class RoutingTable(Contract):
    schema_version: SchemaVersion = SCHEMA_VERSION
    revision: int
    issued_at: datetime
    aliases: dict[str, AliasRoute]
    replicas: list[Replica]
