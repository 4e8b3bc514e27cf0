"""Check questions: two answers to one prompt of which the better one is known, planted among those that raters compare.

What is planted belongs to nobody: it is sealed with the tenant's own key and may not be trained on. Neither order nor
ids tell which answer is the better one: the ids are minted first, then a coin is tossed.
"""

import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from uuid6 import uuid7

from infra.clock import now
from infra.contracts.events import Choice, Consent, Inference
from infra.database.tables import CheckRow
from infra.envelopes import Header
from infra.identity import Identity

ARM = VERSION = "check"  # no version of ours wrote it, so that no release is told by votes on it
NOBODYS = Consent(train=False, explicit=True)
Side = Literal["a", "b"]
Text = Annotated[str, StringConstraints(min_length=1, max_length=200_000, pattern=r"^[^\x00]*$")]
Label = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^[^\x00]*$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}$")]


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid")

    role: Literal["system", "user", "assistant"]
    content: Text


class Question(BaseModel):
    """What an operator plants."""

    model_config = ConfigDict(extra="forbid")

    messages: list[Message] = Field(min_length=1, max_length=200, description="The conversation so far.")
    better: Text = Field(description="The answer that whoever reads both must prefer.")
    worse: Text
    model: Name | None = Field(None, description="The alias whose raters are asked; default: `gateway.alias`.")
    segment: Label | None = Field(None, description="The kind of user that it is for; default: all.")

    @model_validator(mode="after")
    def can_be_judged(self) -> Self:
        better, worse = _read(self.better), _read(self.worse)
        if not (better and worse):
            raise ValueError("`better` and `worse` must say something")
        if better == worse:
            raise ValueError("`better` and `worse` say the same")
        return self


@dataclass(frozen=True, slots=True)
class Planting:
    """A question as it is kept, and the two answers as events, each with what its envelope says."""

    row: CheckRow
    events: tuple[tuple[Inference, Header], ...]


def make_planting(identity: Identity, tenant: str, alias: str, question: Question, actor: str) -> Planting:
    """The events must be durable before the row is stored: nobody is asked what could not be joined."""
    ids = {side: identity.new_response_id(tenant) for side in get_args(Side)}
    better: Side = secrets.choice(get_args(Side))
    texts = {side: question.better if side == better else question.worse for side in ids}
    messages, at = [message.model_dump() for message in question.messages], now()
    row = CheckRow(tenant=tenant, check_id=uuid7().hex, alias=alias, segment=question.segment, actor=actor)
    row.question, row.better = {"messages": messages, **texts}, better
    row.response_a, row.response_b, row.planted_at, row.retired_at = ids["a"], ids["b"], at, None
    header = Header(tenant=tenant, segment=question.segment, consent=NOBODYS, occurred_at=at)
    events = [_answer(ids[side], alias, messages, texts[side], at, right=side == better) for side in ids]
    return Planting(row, tuple((event, header) for event in events))


def _answer(
    response_id: str, alias: str, messages: Sequence[dict[str, Any]], text: str, at: datetime, *, right: bool
) -> Inference:
    """As a chat would have been answered, but by nobody."""
    choice = Choice(
        index=0, message={"role": "assistant", "content": text}, finish_reason="stop", version=VERSION, arm=ARM,
        arm_propensity=1.0,
    )  # fmt: skip
    return Inference(
        response_id=response_id,
        alias=alias,
        base_revision="",
        request={"messages": list(messages)},
        choices=[choice],
        started_at=at,
        ended_at=at,
        turn=1 + sum(message["role"] == "assistant" for message in messages),
        rateable=False,
        check="better" if right else "worse",
    )


def _read(text: str) -> str:
    """What a reader sees: neither spacing nor the form of a character."""
    return " ".join(unicodedata.normalize("NFC", text).split())
