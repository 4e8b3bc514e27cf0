"""Votes on one answer, or on a whole conversation: thumbs, ratings, corrections, comments, custom metrics."""

from typing import Annotated, Literal, Self

from fastapi import APIRouter, Request
from pydantic import Field, StrictBool, StrictInt, StrictStr, StringConstraints, model_validator

from gateway.documents import VOTE_RESPONSES
from gateway.json_route import JsonRoute
from gateway.services import services
from gateway.votes import IdempotencyKey, Index, Name, Number, Receipt, ResponseId, VoteBody, shared
from infra.contracts.events import Feedback

MAX_TEXT = 200_000  # characters of a correction or comment
Whole = Annotated[StrictInt, Field(ge=-(2**53), le=2**53)]  # what every JSON reader keeps exactly; beyond, a float
Kind = Literal["thumbs", "rating", "comparison", "ranking", "correction", "comment", "custom"]

router = APIRouter(tags=["votes"], route_class=JsonRoute)


class FeedbackBody(VoteBody):
    """`thumbs`: true or false; `rating`: 1 to 5; `correction`: the better answer; `comment`: text. null retracts."""

    response_id: ResponseId | None = None
    session_id: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None
    index: Index = 0
    name: Name = Field(description="thumbs, rating, correction, comment, or a metric of your own.")
    value: StrictBool | Whole | Number | Annotated[StrictStr, StringConstraints(max_length=MAX_TEXT)] | None

    @model_validator(mode="after")
    def has_one_target(self) -> Self:
        if (self.response_id is None) == (self.session_id is None):
            raise ValueError("give either `response_id` or `session_id`")
        return self

    @model_validator(mode="after")
    def value_fits_its_name(self) -> Self:
        if self.value is not None and (wanted := _misfit(self.name, self.value)):
            raise ValueError(f"the value of `{self.name}` must be {wanted}, or null")
        return self


def _misfit(name: str, value: bool | int | float | str) -> str | None:
    """What the value should be where it is not."""
    if name in ("comparison", "ranking"):
        return f"sent to /v1/{name}s"
    if name == "thumbs":
        return None if isinstance(value, bool) else "true or false"
    if name == "rating":
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return None if number and 1 <= value <= 5 else "a number from 1 to 5"  # type: ignore[operator]  # checked
    if name in ("correction", "comment"):
        return None if isinstance(value, str) and 0 < len(value) <= MAX_TEXT else f"1 to {MAX_TEXT} characters of text"
    return None


def kind_of(name: str) -> Kind:
    known: dict[str, Kind] = {n: n for n in ("thumbs", "rating", "correction", "comment")}
    return known.get(name, "custom")


@router.post("/v1/feedback", status_code=202, responses=VOTE_RESPONSES)
async def vote(request: Request, body: FeedbackBody, idempotency_key: IdempotencyKey = None) -> Receipt:
    """202 means durable. One vote counts per rater, answer and name: the last one."""
    box = services(request).ballots
    voter = await box.voter(request, body, [body.response_id] if body.response_id else [])
    feedback = Feedback(
        kind=kind_of(body.name),
        name=body.name,
        response_id=body.response_id,
        session_id=body.session_id,
        index=body.index,
        value=body.value,
        **shared(body),
    )
    return await box.cast(voter, body, feedback, idempotency_key)
