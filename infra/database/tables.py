"""The registry's tables. Feedback's own tables live in its room, on the same `Base` and the same migrations."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    DateTime,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in and out, stored as UTC (SQLite would drop the zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON, list[str]: JSON, list[Any]: JSON}


class LeaseRow(Base):
    __tablename__ = "leases"
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    holder: Mapped[str] = mapped_column(String(200))
    epoch: Mapped[int] = mapped_column(Integer)
    expires_at: Mapped[datetime]


class KeyRow(Base):
    __tablename__ = "keys"
    key_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(100))
    name: Mapped[str] = mapped_column(String(100))
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class DatasetRow(Base):
    __tablename__ = "datasets"
    tenant: Mapped[str] = mapped_column(String(100), primary_key=True)
    dataset_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    alias: Mapped[str] = mapped_column(String(100))
    sha256: Mapped[str] = mapped_column(String(64))
    path: Mapped[str] = mapped_column(Text)
    manifest: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    erased_at: Mapped[datetime | None]


class CycleRow(Base):
    __tablename__ = "cycles"
    __table_args__ = (UniqueConstraint("cycle_id"),)
    tenant: Mapped[str] = mapped_column(String(100), primary_key=True)
    cycle_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    alias: Mapped[str] = mapped_column(String(100))
    state: Mapped[str] = mapped_column(String(30), index=True)
    trigger: Mapped[str] = mapped_column(String(100))
    settings: Mapped[dict[str, Any]]  # overrides of TrainerSettings asked for with the trigger
    dataset_id: Mapped[str | None] = mapped_column(String(100))
    reward_model: Mapped[str | None] = mapped_column(String(200))
    version: Mapped[str | None] = mapped_column(String(200))
    progress: Mapped[dict[str, Any]]  # {stage, step, total, eta_s, metrics}
    seconds: Mapped[dict[str, Any]]  # seconds spent per state
    reason: Mapped[str | None] = mapped_column(Text)  # why it failed, was blocked or waits
    cancel_requested: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class RewardModelRow(Base):
    __tablename__ = "reward_models"
    tenant: Mapped[str] = mapped_column(String(100), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    cycle_id: Mapped[str | None] = mapped_column(String(40))
    path: Mapped[str] = mapped_column(Text)
    manifest: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class AdapterRow(Base):
    __tablename__ = "adapters"
    version: Mapped[str] = mapped_column(String(200), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(100))
    alias: Mapped[str] = mapped_column(String(100), index=True)
    cycle_id: Mapped[str | None] = mapped_column(String(40))
    state: Mapped[str] = mapped_column(String(30), index=True)
    path: Mapped[str] = mapped_column(Text)  # inside the artifact store
    manifest: Mapped[dict[str, Any]]
    gates: Mapped[dict[str, Any] | None]  # the last GateReport
    erasure: Mapped[dict[str, Any] | None]  # erasure id -> when it touched a dataset behind this version
    reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class RolloutRow(Base):
    __tablename__ = "rollouts"
    rollout_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(100))
    alias: Mapped[str] = mapped_column(String(100), index=True)
    kind: Mapped[str] = mapped_column(String(20))  # promote | rollback
    version: Mapped[str] = mapped_column(String(200))
    from_version: Mapped[str] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(30), index=True)
    actor: Mapped[str] = mapped_column(String(100))
    reason: Mapped[str] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    requested_at: Mapped[datetime]
    flipped_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    steps: Mapped[list[Any]] = mapped_column(default=list)  # of `infra.contracts.rollouts.Step`; none: flip at once
    step: Mapped[int] = mapped_column(default=0)  # the one it is at, from 0
    step_began_at: Mapped[datetime | None]
    look: Mapped[dict[str, Any] | None]  # the last `infra.contracts.rollouts.Look`


class NewsRow(Base):
    """What became of a rollout and is not yet on the log. `body` is an `infra.contracts.rollouts.RolloutEvent`."""

    __tablename__ = "rollout_news"
    news_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    event_id: Mapped[str] = mapped_column(String(32))
    tenant: Mapped[str] = mapped_column(String(100))
    at: Mapped[datetime]
    body: Mapped[dict[str, Any]]


class TallyRow(Base):
    """See `infra.registry.tallies.Tally`."""

    __tablename__ = "tallies"
    __table_args__ = (Index("tallies_unit", "tenant", "unit"),)
    tenant: Mapped[str] = mapped_column(String(100), primary_key=True)
    rollout_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    arm: Mapped[str] = mapped_column(String(20), primary_key=True)
    unit: Mapped[str] = mapped_column(Text, primary_key=True)
    share: Mapped[float]
    first_at: Mapped[datetime]
    segment: Mapped[str] = mapped_column(Text)
    weight: Mapped[float]
    answers: Mapped[int]
    failed: Mapped[int]
    rateable: Mapped[int]
    tokens: Mapped[int]
    seconds: Mapped[float]
    refusals: Mapped[int]
    votes: Mapped[int]
    ups: Mapped[int]
    choices: Mapped[int]
    wins: Mapped[float]
    judgeable: Mapped[int] = mapped_column(default=0)
    judged: Mapped[int] = mapped_column(default=0)
    judge_wins: Mapped[float] = mapped_column(default=0.0)
    voted_at: Mapped[datetime | None]


class RoutingRow(Base):
    __tablename__ = "routing"
    slot: Mapped[int] = mapped_column(Integer, primary_key=True)  # always 1
    revision: Mapped[int]
    table: Mapped[dict[str, Any]]
    issued_at: Mapped[datetime]


class ReplicaRow(Base):
    __tablename__ = "replicas"
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    address: Mapped[str] = mapped_column(String(200))
    base_revision: Mapped[str] = mapped_column(String(64))
    served_model: Mapped[str] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(20))
    versions: Mapped[list[str]]
    max_model_len: Mapped[int]
    engine_started: Mapped[float]
    discovered: Mapped[bool]
    drain: Mapped[bool]
    updated_at: Mapped[datetime]


class GatewayRow(Base):
    __tablename__ = "gateways"
    gateway_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    address: Mapped[str] = mapped_column(String(200))
    applied_revision: Mapped[int]
    in_flight: Mapped[dict[str, Any]]  # version -> answers under way
    heartbeat_at: Mapped[datetime]


class PairCountRow(Base):
    """How many preference pairs and lone thumbs feedback has joined so far: what the threshold triggers watch."""

    __tablename__ = "pair_counts"
    tenant: Mapped[str] = mapped_column(String(100), primary_key=True)
    alias: Mapped[str] = mapped_column(String(100), primary_key=True)
    pairs: Mapped[int]
    thumbs: Mapped[int]
    updated_at: Mapped[datetime]


class ErasureRow(Base):
    """A person who is erased. The row stays: nothing of that rater up to `up_to` is stored again."""

    __tablename__ = "erasures"
    __table_args__ = (Index("erasures_rater", "tenant", "rater"),)
    tenant: Mapped[str] = mapped_column(String(100), primary_key=True)
    erasure_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    rater: Mapped[str] = mapped_column(String(64))
    up_to: Mapped[datetime]
    requested_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(String(20), index=True)
    report: Mapped[dict[str, Any]]  # what was erased where, and what it touched
    finished_at: Mapped[datetime | None]


class ExportRow(Base):
    """A wish for everything of one person. The gateway writes it, feedback fulfils it."""

    __tablename__ = "exports"
    __table_args__ = (Index("exports_rater", "tenant", "rater"),)
    tenant: Mapped[str] = mapped_column(String(100), primary_key=True)
    export_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    rater: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(20), index=True)
    path: Mapped[str | None] = mapped_column(Text)  # inside the artifact store
    requested_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class TraceRow(Base):
    """A question about an answer or an event. The gateway writes it, feedback answers it, and it is forgotten."""

    __tablename__ = "traces"
    tenant: Mapped[str] = mapped_column(String(100), primary_key=True)
    trace_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    question: Mapped[dict[str, Any]]  # an `infra.contracts.traces.Question`
    state: Mapped[str] = mapped_column(String(20), index=True)
    answer: Mapped[dict[str, Any] | None]  # a `ResponseTrace` or an `EventTrace`
    reason: Mapped[str | None] = mapped_column(Text)
    requested_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]


class CheckRow(Base):
    """A planted pair of answers whose better one is known. `question` is {messages, a, b}: the prompt and two texts."""

    __tablename__ = "checks"
    tenant: Mapped[str] = mapped_column(String(100), primary_key=True)
    check_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    alias: Mapped[str] = mapped_column(String(100))
    segment: Mapped[str | None] = mapped_column(Text)
    question: Mapped[dict[str, Any]]
    response_a: Mapped[str] = mapped_column(String(200))
    response_b: Mapped[str] = mapped_column(String(200))
    better: Mapped[str] = mapped_column(String(1))  # a | b
    actor: Mapped[str] = mapped_column(String(100))
    planted_at: Mapped[datetime]
    retired_at: Mapped[datetime | None]


class CaseRow(Base):
    """A regression case from a live answer: see `infra.cases`. `checks` tells how many there are of each kind.

    `sealed` is nothing once it is refused, erased or expired; `rater` is whoever asked, and `asked_at` when.
    """

    __tablename__ = "regression_cases"
    tenant: Mapped[str] = mapped_column(String(100), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    case_id: Mapped[str] = mapped_column(String(32))  # what its body is sealed for
    response_id: Mapped[str] = mapped_column(String(200))
    alias: Mapped[str | None] = mapped_column(String(100))  # the answer's, once that was found
    checks: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(String(20), index=True)
    refusal: Mapped[str | None] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(String(100))
    reason: Mapped[str] = mapped_column(Text)
    rater: Mapped[str | None] = mapped_column(String(64))
    asked_at: Mapped[datetime | None]
    retain_until: Mapped[datetime | None]
    key_id: Mapped[str] = mapped_column(String(64))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    requested_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]


class AuditRow(Base):
    """Append-only: nothing updates or deletes here."""

    __tablename__ = "audit"
    audit_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=True)
    at: Mapped[datetime]
    tenant: Mapped[str] = mapped_column(String(100))
    actor: Mapped[str] = mapped_column(String(100))
    action: Mapped[str] = mapped_column(String(100), index=True)
    subject: Mapped[str] = mapped_column(String(200), index=True)
    reason: Mapped[str] = mapped_column(Text)
    before: Mapped[dict[str, Any]]
    after: Mapped[dict[str, Any]]
