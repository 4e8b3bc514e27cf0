"""What was asked about an answer or an event, and what is told: where it came from, or how far it went.

Nothing in it is anybody's word: no prompt, no answer, no value of a vote, no rater.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from infra.contracts.base import Contract

KEPT = timedelta(hours=1)  # a question and its answer, from the asking on
PAGE, PAGE_MOST = 100, 1000  # events told at a time


class Question(Contract):
    """Of one answer by its response id, or of one event: by its id, or an answer's by its response id."""

    response_id: str | None = None
    event_id: str | None = None
    events: bool = False
    offset: int = 0
    limit: int = PAGE

    @model_validator(mode="after")
    def asks_one_thing(self) -> Self:
        if (self.response_id is None) is (self.event_id is None):
            raise ValueError("a trace is of one response_id or of one event_id")
        return self


class EventState(StrEnum):
    """What became of an event."""

    STORED = "stored"
    PENDING = "pending"
    JOINED = "joined"
    ORPHANED = "orphaned"
    SUPERSEDED = "superseded"  # the same person said something later
    ERASED = "erased"  # its person was
    EXPIRED = "expired"  # it was kept until its `retain_until`
    GONE = "gone"  # older than feedback.keep_days


class TracedEvent(Contract):
    """`kind` is `inference`, `erasure`, or a vote's: thumbs, comparison, ..."""

    event_id: str
    kind: str | None
    state: EventState
    source: str | None = None
    occurred_at: datetime | None = None
    retracted: bool = False


class TracedChoice(Contract):
    index: int
    version: str
    arm: str
    arm_propensity: float
    finish_reason: str | None


class TracedRollout(Contract):
    """`step` is the one at which the answer was given, `state` where the rollout is now."""

    rollout_id: str
    kind: str
    state: str
    version: str
    from_version: str
    step: int | None
    title: str | None


class TracedCycle(Contract):
    cycle_id: str
    state: str
    trigger: str
    dataset_id: str | None
    created_at: datetime


class TracedGate(Contract):
    name: str
    blocking: bool
    verdict: str


class TracedDataset(Contract):
    """`rows[table][split]`. Without an id only its hash is known here."""

    dataset_id: str | None
    sha256: str
    rows: dict[str, dict[str, int]] = {}
    created_at: datetime | None = None
    erased_at: datetime | None = None


class TracedParent(Contract):
    version: str
    state: str | None
    method: str | None
    cycle_id: str | None


class TracedReward(Contract):
    name: str
    cycle_id: str | None
    dataset_sha256: list[str]


class TracedSources(Contract):
    """The events that rows of these datasets are made of. Incomplete: files had been erased when they were counted."""

    count: int
    complete: bool
    offset: int = 0
    page: list[TracedEvent] = []


class TracedVersion(Contract):
    """`datasets` are the transitive closure, `parents` the versions that its weights go back to, the nearest first."""

    version: str
    alias: str
    state: str
    base_revision: str
    method: str
    init: str
    anchor: str
    created_at: datetime
    parents: list[TracedParent]
    cycle: TracedCycle | None
    reward_model: TracedReward | None
    verdict: str | None
    gates: list[TracedGate]
    datasets: list[TracedDataset]
    events: TracedSources
    erasures: list[str] = Field(default=[], description="Of people whose data it was trained with.")


class ResponseTrace(Contract):
    """Where an answer came from. Versions that no adapter made, such as `base`, are in `choices` only."""

    kind: Literal["response"] = "response"
    response_id: str
    event: TracedEvent
    alias: str
    status: str
    base_revision: str
    routing_revision: int | None = Field(description="null where the event can't be opened any more")
    shadow_of: str | None = Field(description="The answer that was shown instead.")
    rollout: TracedRollout | None
    choices: list[TracedChoice]
    versions: list[TracedVersion]
    votes: list[TracedEvent]
    votes_total: int


class TracedRow(Contract):
    table: str
    split: str
    row_id: str


class TracedSnapshot(Contract):
    """A dataset with rows made of the event; `rows` are the first of them."""

    dataset_id: str
    alias: str
    created_at: datetime
    erased_at: datetime | None
    rows_total: int
    rows: list[TracedRow]


class TracedAdapter(Contract):
    """A version that was trained on one of these datasets, itself or what it started from."""

    version: str
    alias: str
    state: str
    cycle_id: str | None
    dataset_ids: list[str]
    created_at: datetime


class TracedErasure(Contract):
    """What an erasure found of the whole person: of one event alone it is not known any more."""

    erasure_id: str
    state: str
    datasets: list[str]
    versions: list[str]
    reward_models: list[str]


class EventTrace(Contract):
    """How far an event went."""

    kind: Literal["event"] = "event"
    event: TracedEvent
    response_ids: list[str] = Field(description="The answer that it is, or those that it is about.")
    consent_train: bool
    received_at: datetime | None
    datasets: list[TracedSnapshot]
    cycles: list[TracedCycle]
    versions: list[TracedAdapter]
    reward_models: list[str]
    erasure: TracedErasure | None
