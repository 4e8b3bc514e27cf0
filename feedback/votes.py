"""Events as feedback reads them: the open envelope, the opened body, and where it stood on the log."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from infra.contracts.events import Envelope, Erasure, Feedback, Inference, Source, vote_key
from infra.eventlog.base import Position

Order = tuple[datetime, str]
Judge = tuple[str | None, bool]  # the rater, and whether that is a model
SESSION = "session:"  # what a vote on a whole conversation points at
AI = "ai:"  # how the unit of whatever a model judged begins: it is capped and weighed apart from every person


@dataclass(frozen=True, slots=True)
class Answered:
    """One inference event."""

    envelope: Envelope
    body: Inference
    position: Position
    redacted: Mapping[str, int] = field(default_factory=dict, compare=False)  # what was taken out of it, by kind

    @property
    def owner(self) -> str:
        """Whose bucket it is in: see `feedback.cells`."""
        return self.envelope.rater or self.body.response_id

    @property
    def order(self) -> Order:
        return self.envelope.occurred_at, self.envelope.event_id.hex


@dataclass(frozen=True, slots=True)
class Vote:
    """One feedback event: a value for its vote key, or the retraction of one."""

    envelope: Envelope
    body: Feedback
    position: Position
    redacted: Mapping[str, int] = field(default_factory=dict, compare=False)  # what was taken out of it, by kind

    @property
    def order(self) -> Order:
        """The greatest one is the current value, whatever order things arrived in."""
        return self.envelope.occurred_at, self.envelope.event_id.hex

    @property
    def vote_id(self) -> str:
        key = vote_key(self.envelope.rater, self.body, self.envelope.source)
        return hashlib.sha256(f"{self.envelope.tenant}|{key}".encode()).hexdigest()

    @property
    def owner(self) -> str:
        """Whose bucket it is in: see `feedback.cells`."""
        return self.rater or self.vote_id

    @property
    def rater(self) -> str | None:
        return self.envelope.rater

    @property
    def judge(self) -> Judge:
        return self.rater, self.is_ai

    @property
    def session_id(self) -> str | None:
        """The conversation that it judges as a whole."""
        return None if self.body.items or self.body.response_id else self.body.session_id

    @property
    def is_ai(self) -> bool:
        return self.envelope.source is Source.AI

    @property
    def retracted(self) -> bool:
        return self.body.value is None

    @property
    def latency_s(self) -> float | None:
        return None if self.body.latency_ms is None else self.body.latency_ms / 1000

    @property
    def targets(self) -> frozenset[str]:
        """The responses it is about, or the conversation."""
        if self.body.groups:
            return frozenset(item.response_id for item in self.body.items)
        return frozenset({self.body.response_id or f"{SESSION}{self.body.session_id}"})

    @property
    def strict_pairs(self) -> int:
        """How many preference pairs it states by itself; thumbs state none, they are paired with others.

        A model's votes start no cycle: they count for none.
        """
        if self.retracted or self.is_ai:
            return 0
        if self.body.kind == "comparison":
            return int(self.body.value in ("a", "b"))
        if self.body.kind == "ranking":
            below = len(self.body.items)
            return sum(len(group) * (below := below - len(group)) for group in self.body.groups)
        return int(self.body.kind == "correction")


@dataclass(frozen=True, slots=True)
class Erased:
    """One erasure event: this person is to be forgotten."""

    envelope: Envelope
    body: Erasure
    position: Position


def current(votes: Iterable[Vote]) -> list[Vote]:
    """The current value of each vote key, in the order of its event."""
    latest: dict[str, Vote] = {}
    for vote in votes:
        vote_id = vote.vote_id
        if vote_id not in latest or vote.order > latest[vote_id].order:
            latest[vote_id] = vote
    return sorted(latest.values(), key=lambda vote: vote.order)
