"""`GET /v1/comparisons/query`: a pair of answers that training wants judged, put before a rater like any two.

Both answers become events of the prompt's owner, sealed and erased as what that person asked: with the ids and times
that follow from the question, so that handing it out again changes nothing.
"""

import asyncio
from collections.abc import Iterator
from typing import Annotated, Literal
from uuid import NAMESPACE_URL, uuid5

from fastapi import APIRouter, Query, Request, Response

from gateway.auth import TOKEN_HEADER
from gateway.documents import CHECK_RESPONSES
from gateway.errors import NotFound
from gateway.questions import Pair, SaidByAssistant, ShownAnswer, Wanted, chosen, tokens, turned
from gateway.services import Services, services
from infra.artifacts import MissingArtifact
from infra.checks import Message
from infra.contracts import queries as contract
from infra.contracts.events import INFERENCE_TOPIC, Choice, Consent, Inference
from infra.contracts.queries import Queries, queries_path
from infra.envelopes import Header
from infra.registry import adapters, erasures
from infra.registry.keys import Scope

ARM = "query"  # no release is told by votes on it: what is disputed is no sample of what users ask
RECENT = 5  # versions that are looked through for questions, the newest first
Side = Literal["a", "b"]
SIDES: tuple[Side, Side] = ("a", "b")

router = APIRouter(tags=["checks"])


@router.get("/v1/comparisons/query", responses=CHECK_RESPONSES)
async def hand_out(request: Request, response: Response, wanted: Annotated[Wanted, Query()]) -> Pair:
    """A question of training for this rater, or 404 where none is left. The vote comes back through `/v1/comparisons`.

    Which one, and which answer stands first, differs between raters and stays the same for each. Off unless
    `gateway.offer_queries` is on: it shows one person's prompt to another.
    """
    room = services(request)
    principal = await room.auth.principal(request, Scope.FEEDBACK)
    rater = room.identity.rater(principal.tenant, wanted.rater)
    found, query = await asyncio.to_thread(_find, room, principal.tenant, rater, wanted)
    for side in SIDES:
        await room.ballots.keep(INFERENCE_TOPIC, *_event(room, found, query, side))
    pair = turned(_pair(room, found.tenant, query), room.identity.fraction(f"query side {query.query_id}", rater))
    response.headers[TOKEN_HEADER] = ",".join(tokens(room, principal.tenant, rater, pair))
    return pair


def _find(room: Services, tenant: str, rater: str, wanted: Wanted) -> tuple[Queries, contract.Query]:
    """Raises NotFound."""
    found = _newest(room, tenant, wanted.model or room.settings.alias) if room.settings.offer_queries else None
    if found is None:
        raise NotFound("training asks nothing at the moment", code="no_query_left")
    left = {query.query_id: query for query in _askable(room, found, wanted)}
    known = {name: [response_id(room, tenant, query, side) for side in SIDES] for name, query in left.items()}
    return found, left[chosen(room.identity, rater, known, wanted.had, code="no_query_left")]


def _newest(room: Services, tenant: str, alias: str) -> Queries | None:
    """Read anew each time: an erasure may have taken questions out."""
    with room.database.reading() as session:
        versions = [row.version for row in adapters.list_adapters(session, tenant, alias=alias, limit=RECENT)]
    for version in versions:
        try:
            return Queries.model_validate_json(room.artifacts.read(queries_path(version)))
        except MissingArtifact:
            continue
    return None


def _askable(room: Services, found: Queries, wanted: Wanted) -> Iterator[contract.Query]:
    """Not those of whoever was erased since, whose questions the eraser may not have come to yet."""
    with room.database.reading() as session:
        for query in found.queries:
            gone = query.owner is not None and any(
                row.up_to >= found.created_at for row in erasures.of_rater(session, found.tenant, query.owner)
            )
            if not gone and wanted.segment in (None, query.segment):
                yield query


def response_id(room: Services, tenant: str, query: contract.Query, side: Side) -> str:
    return room.identity.response_id_of(tenant, f"query {query.query_id} {side}")


def _event(room: Services, found: Queries, query: contract.Query, side: Side) -> tuple[str, Inference, Header]:
    """Key, body and header; dated when the question was made, so that an erasure since then covers it."""
    handle, answer, at = response_id(room, found.tenant, query, side), getattr(query, side), found.created_at
    choice = Choice(
        index=0, message={"role": "assistant", "content": answer.content}, finish_reason="stop",
        version=answer.version, arm=ARM, arm_propensity=1.0,
    )  # fmt: skip
    event = Inference(
        response_id=handle, alias=found.alias, base_revision="", request={"messages": query.prompt}, choices=[choice],
        started_at=at, ended_at=at, turn=1 + sum(message["role"] == "assistant" for message in query.prompt),
        rateable=False,
    )  # fmt: skip
    header = Header(
        tenant=found.tenant, rater=query.owner, segment=query.segment, consent=Consent(train=True),
        event_id=uuid5(NAMESPACE_URL, f"thumbwheel|{handle}"), occurred_at=at,
    )  # fmt: skip
    return handle, event, header


def _pair(room: Services, tenant: str, query: contract.Query) -> Pair:
    a, b = (
        ShownAnswer(
            response_id=response_id(room, tenant, query, side),
            message=SaidByAssistant(content=getattr(query, side).content),
        )
        for side in SIDES
    )
    messages = [Message(role=message["role"], content=message["content"]) for message in query.prompt]
    return Pair(messages=messages, a=a, b=b)
