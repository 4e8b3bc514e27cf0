"""`GET /v1/comparisons/check`: a planted pair of answers, shaped like any two that a product puts side by side."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from gateway.auth import TOKEN_HEADER
from gateway.documents import CHECK_RESPONSES
from gateway.errors import NotFound
from gateway.services import Services, services
from gateway.votes import ResponseId
from infra.checks import Label, Message, Name
from infra.database.tables import CheckRow
from infra.identity import FeedbackGrant, Identity
from infra.registry import checks
from infra.registry.keys import Scope

MOST_HAD = 500  # what a request line has room for

router = APIRouter(tags=["checks"])


class Wanted(BaseModel):
    """What is asked for."""

    model_config = ConfigDict(extra="forbid")

    rater: str = Field(min_length=1, max_length=512, description="Who is to judge, as votes name them.")
    model: Name | None = Field(None, description="The alias; default: `gateway.alias`.")
    segment: Label | None = Field(None, description="Leaves out checks of another segment.")
    had: list[ResponseId] = Field(
        [], max_length=MOST_HAD, description="One response id of each check that this rater has had."
    )


class SaidByAssistant(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str


class ShownAnswer(BaseModel):
    """`response_id` and `index` go into the vote."""

    response_id: str
    index: int = 0
    message: SaidByAssistant


class Pair(BaseModel):
    messages: list[Message] = Field(description="The conversation so far.")
    a: ShownAnswer
    b: ShownAnswer


def make_pair(row: CheckRow) -> Pair:
    a, b = (
        ShownAnswer(response_id=response_id, message=SaidByAssistant(content=row.question[side]))
        for side, response_id in (("a", row.response_a), ("b", row.response_b))
    )
    return Pair(messages=row.question["messages"], a=a, b=b)


@router.get("/v1/comparisons/check", responses=CHECK_RESPONSES)
async def hand_out(request: Request, response: Response, wanted: Annotated[Wanted, Query()]) -> Pair:
    """A check question for this rater, or 404 where none is left. The vote comes back through `/v1/comparisons`.

    Which one, and which answer stands first, differs between raters and stays the same for each.
    """
    room = services(request)
    principal = await room.auth.principal(request, Scope.FEEDBACK)
    rater = room.identity.rater(principal.tenant, wanted.rater)
    row = await asyncio.to_thread(_find, room, principal.tenant, rater, wanted)
    pair = turned(make_pair(row), room.identity.fraction(f"check side {row.check_id}", rater))
    response.headers[TOKEN_HEADER] = ",".join(tokens(room, principal.tenant, rater, pair))
    return pair


def chosen(
    identity: Identity, rater: str, known: Mapping[str, Collection[str]], had: Collection[str],
    code: str = "no_check_left",
) -> str:  # fmt: skip
    """The first that is left in this rater's own order; `known` are response ids by question. Raises NotFound."""
    left = [check_id for check_id, response_ids in known.items() if not set(response_ids).intersection(had)]
    if not left:
        raise NotFound("no question is left for this rater", code=code)
    return min(left, key=lambda check_id: identity.fraction(f"check {check_id}", rater))


def turned(pair: Pair, fraction: float) -> Pair:
    """Half of the raters see it the other way round."""
    return pair if fraction < 0.5 else pair.model_copy(update={"a": pair.b, "b": pair.a})


def _find(room: Services, tenant: str, rater: str, wanted: Wanted) -> CheckRow:
    with room.database.reading() as session:
        known = checks.live(session, tenant, wanted.model or room.settings.alias, wanted.segment)
        return checks.get(session, tenant, chosen(room.identity, rater, known, wanted.had))


def tokens(room: Services, tenant: str, rater: str, pair: Pair) -> list[str]:
    """With both of them a page compares the two without a key."""
    grants = [FeedbackGrant(tenant, shown.response_id, rater) for shown in (pair.a, pair.b)]
    return [room.identity.sign(grant, ttl_s=room.settings.token_ttl_s) for grant in grants]
