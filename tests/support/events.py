"""Builders of events: a body, its envelope, and the record as it stands on the log."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from infra.artifacts import ArtifactStore
from infra.clock import now
from infra.contracts.events import (
    ERASURE_TOPIC,
    FEEDBACK_TOPIC,
    INFERENCE_TOPIC,
    Choice,
    Consent,
    Envelope,
    Erasure,
    Feedback,
    Inference,
    Item,
)
from infra.envelopes import Header, Sealer
from infra.eventlog.base import Position, Record
from infra.keystore.sqlite import SqliteKeyStore
from infra.sealing import Keyring

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
TENANT = "default"
NAMES = UUID("6f7e0f5c-7c0e-4f62-9a0e-5f3a6c9d2b11")


def moment(seconds: float = 0) -> datetime:
    """A time of the day that tests happen on."""
    return NOON + timedelta(seconds=seconds)


def event_id(name: str) -> UUID:
    """The same id for the same name."""
    return uuid5(NAMES, name)


def make_choice(text: str = "Return the cosine of x.", **overrides: Any) -> Choice:
    fields = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": "stop",
        "token_ids": [5, 6, 7],
        "logprobs": [-0.5, -0.25, -0.125],
        "version": "base",
        "arm": "champion",
        "arm_propensity": 1.0,
    }
    return Choice.model_validate({**fields, **overrides})


def make_inference(
    response_id: str = "r1",
    *,
    prompt: str = "What does math.cos do?",
    texts: Sequence[str] = ("Return the cosine of x.",),
    **overrides: Any,
) -> Inference:
    """An answered chat of one turn; `texts` are its choices."""
    fields = {
        "response_id": response_id,
        "alias": "assistant",
        "base_revision": "base-revision",
        "request": {"messages": [{"role": "user", "content": prompt}]},
        "sampling": {"temperature": 0.7, "top_p": 1.0},
        "prompt_token_ids": [1, 2, 3],
        "choices": [make_choice(text, index=index) for index, text in enumerate(texts)],
        "started_at": moment(),
        "ended_at": moment(1),
    }
    return Inference.model_validate({**fields, **overrides})


def make_feedback(response_id: str | None = "r1", **overrides: Any) -> Feedback:
    """A thumb up, unless told otherwise."""
    fields = {"kind": "thumbs", "name": "thumbs", "response_id": response_id, "value": True}
    return Feedback.model_validate({**fields, **overrides})


def make_comparison(a: str = "r1", b: str = "r2", choice: str | None = "a", **overrides: Any) -> Feedback:
    """A side-by-side choice; `response#1` names the second choice of a response."""
    fields = {
        "kind": "comparison",
        "name": "overall",
        "value": choice,
        "groups": [[make_item(a)], [make_item(b)]],
        "shown_first": "a",
        "latency_ms": 20_000.0,
    }
    return Feedback.model_validate({**fields, **overrides})


def make_ranking(*groups: Sequence[str], **overrides: Any) -> Feedback:
    """Best first; answers of one group are ties."""
    items = [[make_item(name) for name in group] for group in groups]
    fields = {"kind": "ranking", "name": "overall", "value": "ranked", "groups": items}
    return Feedback.model_validate({**fields, **overrides})


def make_erasure(name: str = "erasure", rater: str = "rater-1", up_to: datetime | None = None) -> Erasure:
    """Of everything up to now, unless told otherwise."""
    return Erasure(erasure_id=event_id(name), rater=rater, up_to=up_to or now(), actor="test")


def make_item(name: str) -> Item:
    response_id, _, index = name.partition("#")
    return Item(response_id=response_id, index=int(index or 0))


def make_sealer(directory: Path, *, inline_limit: int = 512 * 1024) -> Sealer:
    return Sealer(
        Keyring(SqliteKeyStore(directory / "keyring.db")), ArtifactStore(str(directory / "artifacts")), inline_limit
    )


def make_header(name: str | None = None, **overrides: Any) -> Header:
    """Consents to training. `name` fixes the event id; without one every event has an id of its own."""
    fields: dict[str, Any] = {"tenant": TENANT, "rater": "rater-1", "consent": Consent(train=True), "occurred_at": NOON}
    if name is not None:
        fields["event_id"] = event_id(name)
    return Header(**{**fields, **overrides})


def make_envelope(
    sealer: Sealer, body: Inference | Feedback | Erasure, name: str | None = None, **header: Any
) -> Envelope:
    return sealer.wrap(body, make_header(name, **header))


def topic_of(body: Inference | Feedback | Erasure) -> str:
    if isinstance(body, Erasure):
        return ERASURE_TOPIC
    return INFERENCE_TOPIC if isinstance(body, Inference) else FEEDBACK_TOPIC


def key_of(body: Inference | Feedback | Erasure) -> str:
    """What keeps the events of one answer in order: its response, or the conversation."""
    if isinstance(body, Erasure):
        return body.rater
    if isinstance(body, Feedback) and body.groups:
        return body.items[0].response_id
    return body.response_id or (isinstance(body, Feedback) and body.session_id) or ""


def make_record(
    sealer: Sealer, body: Inference | Feedback, name: str | None = None, *, offset: int = 0, **header: Any
) -> Record:
    """As it comes from the log."""
    envelope = make_envelope(sealer, body, name, **header)
    position = Position(topic_of(body), 0, offset)
    return Record(position, key_of(body), envelope.model_dump_json().encode(), envelope.occurred_at)
