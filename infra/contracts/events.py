"""The events on the log: an open envelope around a sealed body.

Times carry their zone: one that doesn't can't be ordered among the others, so it is refused at the door.
"""

from enum import StrEnum
from typing import Any, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, Base64Bytes, Field, model_validator

from infra.contracts.base import SCHEMA_VERSION, Contract, SchemaVersion

INFERENCE_TOPIC = "thumbwheel.inference.v1"
FEEDBACK_TOPIC = "thumbwheel.feedback.v1"
ERASURE_TOPIC = "thumbwheel.erasure.v1"
ROLLOUT_TOPIC = "thumbwheel.rollout.v1"
DEAD_LETTER_TOPIC = "thumbwheel.dead-letter.v1"
TOPICS = (INFERENCE_TOPIC, FEEDBACK_TOPIC, ERASURE_TOPIC, ROLLOUT_TOPIC, DEAD_LETTER_TOPIC)
SHADOW = "shadow"  # the arm of a choice that nobody was shown


class Source(StrEnum):
    """Who judged: a person, a model, or behaviour such as a copy or a retry."""

    HUMAN = "human"
    AI = "ai"
    IMPLICIT = "implicit"


class Consent(Contract):
    """What the person allowed: training at all, and until when the content may be kept.

    `explicit` tells the person's own word from the `consent_default` setting: an explicit no to either half of a
    judgement wins over anything else said by the same person.
    """

    train: bool = False
    explicit: bool = False
    retain_until: AwareDatetime | None = None


class Envelope(Contract):
    """What may be read without a data key. `sealed` is the AES-GCM box of the body's JSON."""

    event_id: UUID
    schema_version: SchemaVersion = SCHEMA_VERSION
    occurred_at: AwareDatetime
    tenant: str
    rater: str | None = None
    session_id: str | None = None
    segment: str | None = None
    source: Source = Source.HUMAN
    consent: Consent = Consent()
    key_id: str
    sealed: Base64Bytes


class TokenLogprob(Contract):
    """One sampled token and its processed log-probability (what was really sampled from), in nats."""

    token_id: int
    logprob: float


class Choice(Contract):
    """One answer as it left the engine. `message` is None where `store: false` asked to keep no content."""

    index: int
    message: dict[str, Any] | None
    finish_reason: str | None
    token_ids: list[int] = []
    logprobs: list[float] = []
    version: str
    arm: str
    arm_propensity: float


class InferenceStatus(StrEnum):
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Inference(Contract):
    """Body of `thumbwheel.inference.v1`: one request, all its choices, and how they came about."""

    response_id: str
    status: InferenceStatus = InferenceStatus.COMPLETED
    alias: str
    base_revision: str
    template_hash: str = ""
    stored: bool = True
    request: dict[str, Any] = Field(default={}, description="messages, tools, response_format as the client sent them")
    sampling: dict[str, Any] = Field(default={}, description="the resolved sampling parameters")
    prompt_token_ids: list[int] = []
    choices: list[Choice]
    usage: dict[str, Any] | None = None
    started_at: AwareDatetime
    ended_at: AwareDatetime
    turn: int = 1
    parent_response_id: str | None = None
    regenerated_from: str | None = None
    rateable: bool = True
    routing_revision: int = 0
    rollout_id: str | None = None
    rollout_step: int | None = None
    shadow_of: str | None = Field(default=None, description="the answer that was shown instead of this one")
    check: Literal["better", "worse"] | None = Field(
        default=None, description="one side of a planted pair whose better answer is known"
    )


class Item(Contract):
    """One answer that a vote points at."""

    response_id: str
    index: int = 0


FeedbackName = str
BUILTIN_NAMES = ("thumbs", "rating", "comparison", "ranking", "correction", "comment")


class Feedback(Contract):
    """Body of `thumbwheel.feedback.v1`. `kind` says how to read it; `name` is the metric or criterion.

    - thumbs: value true/false; rating: 1-5; correction, comment: text; custom: any JSON scalar; null retracts.
    - comparison: items (a, b), value a|b|tie|both_bad; ranking: groups best first, ties as one group.
    """

    kind: Literal["thumbs", "rating", "comparison", "ranking", "correction", "comment", "custom"]
    name: FeedbackName
    response_id: str | None = None
    session_id: str | None = None
    index: int = 0
    value: bool | int | float | str | None = None
    groups: list[list[Item]] = Field(
        default=[], description="comparison: [[a], [b]]; ranking: best first, ties together"
    )
    strength: float | None = None
    shown_first: Literal["a", "b"] | None = None
    latency_ms: float | None = None
    reasons: list[str] = []
    comment: str | None = None

    @model_validator(mode="after")
    def points_at_something(self) -> Self:
        """A vote without a target can never be joined, so it is refused here."""
        if not (self.groups or self.response_id or self.session_id):
            raise ValueError("a vote needs a response_id, a session_id or items")
        return self

    @property
    def items(self) -> list[Item]:
        return [item for group in self.groups for item in group]


class Erasure(Contract):
    """Body of `thumbwheel.erasure.v1`: everything of this rater up to `up_to` is to go."""

    erasure_id: UUID
    rater: str
    up_to: AwareDatetime
    actor: str = ""  # who asked: the name of a key, or of whoever ran the command


class DeadLetter(Contract):
    """A payload that could not be read, with the reason and where it stood; a large one is an artifact."""

    topic: str
    partition: int
    offset: int
    key: str
    reason: str
    payload: Base64Bytes
    artifact: str | None = None
    seen_at: AwareDatetime


def vote_key(rater: str | None, feedback: Feedback, source: Source = Source.HUMAN) -> str:
    """One current value per (rater, target, name); a comparison is keyed by its unordered items.

    A model's vote never takes the place of a person's, whatever name it was cast under.
    """
    who = f"{source}:{rater or ''}" if source is Source.AI else rater or ""
    if feedback.groups:
        items = sorted(f"{item.response_id}#{item.index}" for item in feedback.items)
        return "|".join([who, feedback.kind, feedback.name, *items])
    target = feedback.response_id or f"session:{feedback.session_id}"
    return "|".join([who, feedback.kind, feedback.name, f"{target}#{feedback.index}"])
