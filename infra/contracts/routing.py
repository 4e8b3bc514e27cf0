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
    """One engine process. `served_model` is the name the engine knows the base under; `versions` are verified on it."""

    name: str
    address: str
    base_revision: str
    served_model: str
    state: ReplicaState
    versions: list[str] = []
    max_model_len: int = 0


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


class RoutingTable(Contract):
    schema_version: SchemaVersion = SCHEMA_VERSION
    revision: int
    issued_at: datetime
    aliases: dict[str, AliasRoute]
    replicas: list[Replica]
