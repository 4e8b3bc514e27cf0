"""Votes between answers: two side by side, or several in order."""

from typing import Annotated, Literal, Self

from fastapi import APIRouter, Request
from pydantic import Field, StrictBool, model_validator

from gateway.documents import VOTE_RESPONSES
from gateway.json_route import JsonRoute
from gateway.services import services
from gateway.votes import AnswerRef, IdempotencyKey, Name, Number, Receipt, VoteBody, shared
from infra.contracts.events import Feedback, Item

Tie = Annotated[list[AnswerRef], Field(min_length=1)]
RANKED = "ranked"  # the value of a ranking that stands; null retracts

router = APIRouter(tags=["votes"], route_class=JsonRoute)


class ChoiceBody(VoteBody):
    name: Name = Field("overall", description="The criterion asked for.")
    strength: Number | None = Field(None, ge=0, description="How much better, when it was asked.")


class ComparisonBody(ChoiceBody):
    a: AnswerRef
    b: AnswerRef
    choice: Literal["a", "b", "tie", "both_bad"] | None = Field(description="null retracts.")
    shown_first: Literal["a", "b"] | None = None

    @model_validator(mode="after")
    def compares_two(self) -> Self:
        if self.a == self.b:
            raise ValueError("`a` and `b` are the same answer")
        return self


class RankingBody(ChoiceBody):
    items: list[AnswerRef | Tie] = Field(
        min_length=1, max_length=128, description="Best first; answers that tie stand in a list of their own."
    )
    retract: StrictBool = Field(False, description="Takes back the ranking of these answers.")

    @model_validator(mode="after")
    def ranks_several(self) -> Self:
        answers = [answer for group in self.groups for answer in group]
        if len(answers) < 2 or len(answers) > 128 or len(set(answers)) < len(answers):
            raise ValueError("`items` must name 2 to 128 different answers")
        return self

    @property
    def groups(self) -> list[list[AnswerRef]]:
        return [item if isinstance(item, list) else [item] for item in self.items]


@router.post("/v1/comparisons", status_code=202, responses=VOTE_RESPONSES)
async def compare(request: Request, body: ComparisonBody, idempotency_key: IdempotencyKey = None) -> Receipt:
    """202 means durable. A browser compares answers of two responses with both tokens, separated by a comma."""
    feedback = Feedback(
        kind="comparison",
        name=body.name,
        value=body.choice,
        groups=[[_item(body.a)], [_item(body.b)]],
        strength=body.strength,
        shown_first=body.shown_first,
        **shared(body),
    )
    return await _cast(request, body, feedback, idempotency_key)


@router.post("/v1/rankings", status_code=202, responses=VOTE_RESPONSES)
async def rank(request: Request, body: RankingBody, idempotency_key: IdempotencyKey = None) -> Receipt:
    """202 means durable."""
    feedback = Feedback(
        kind="ranking",
        name=body.name,
        value=None if body.retract else RANKED,
        groups=[[_item(answer) for answer in group] for group in body.groups],
        strength=body.strength,
        **shared(body),
    )
    return await _cast(request, body, feedback, idempotency_key)


async def _cast(request: Request, body: VoteBody, feedback: Feedback, idempotency_key: str | None) -> Receipt:
    box = services(request).ballots
    voter = await box.voter(request, body, sorted({item.response_id for item in feedback.items}))
    return await box.cast(voter, body, feedback, idempotency_key)


def _item(answer: AnswerRef) -> Item:
    return Item(response_id=answer.response_id, index=answer.index)
