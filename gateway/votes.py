"""What all votes share: who may cast one, and that it is acknowledged only once it is durable."""

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from uuid import NAMESPACE_URL, UUID, uuid5

import structlog
from fastapi import Header as FromHeader
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, Strict, StrictBool, StrictInt, StringConstraints
from starlette.requests import Request

from gateway.auth import Auth
from gateway.errors import Forbidden, NotFound, Unavailable
from gateway.metrics import Metrics
from infra.clock import now
from infra.contracts.events import FEEDBACK_TOPIC, Consent, Envelope, Feedback, Source, vote_key
from infra.envelopes import Header, Sealer
from infra.eventlog.base import LogUnavailable, Producer
from infra.identity import Identity
from infra.registry.keys import Scope
from infra.settings import GatewaySettings
from infra.shipping import Shipper
from infra.spool import Entry, Spool, SpoolFull

log = structlog.get_logger()

Stored = Literal["log", "spool"]
ResponseId = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Index = Annotated[StrictInt, Field(ge=0, le=127)]
Number = Annotated[FiniteFloat, Strict()]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=200)]
IdempotencyKey = Annotated[
    str | None,
    FromHeader(min_length=1, max_length=200, description="The same key again is the same vote, not a second one."),
]


class AnswerRef(BaseModel):
    """One answer: `index` tells the choices of an `n` > 1 request apart."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    response_id: ResponseId
    index: Index = 0


class VoteBody(BaseModel):
    """The fields of every vote."""

    model_config = ConfigDict(extra="forbid")

    rater: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = Field(
        None, description="Who judged, in the caller's own terms; known inside by a keyed hash only."
    )
    reasons: list[Reason] = Field([], max_length=20)
    comment: Annotated[str, StringConstraints(max_length=10_000)] | None = None
    latency_ms: Number | None = Field(None, ge=0, description="From shown to judged.")
    consent_train: StrictBool | None = Field(None, description="Whether this vote may be trained on.")
    source: Source = Source.HUMAN


class Receipt(BaseModel):
    feedback_id: UUID
    stored: Stored = Field(description="Where it is durable: the event log, or this gateway's disk.")


@dataclass(frozen=True, slots=True)
class Voter:
    """`rater` is hashed; None is nobody named."""

    tenant: str
    rater: str | None


@dataclass(frozen=True, slots=True)
class BallotBox:
    """Takes votes; one per process."""

    auth: Auth
    identity: Identity
    sealer: Sealer
    producer: Producer
    spool: Spool
    shipper: Shipper
    metrics: Metrics
    settings: GatewaySettings

    async def voter(self, request: Request, body: VoteBody, responses: Sequence[str]) -> Voter:
        """A token speaks for its rater on its response only; a key for its tenant's responses.

        Raises Unauthorized, Forbidden or NotFound.
        """
        if grants := self.auth.grants(request):
            tenant, rater = grants[0].tenant, grants[0].rater
            same = all((grant.tenant, grant.rater) == (tenant, rater) for grant in grants)
            if not same or not responses or not {grant.response_id for grant in grants}.issuperset(responses):
                raise Forbidden("the feedback token is not for this response")
            if body.rater is not None and self.identity.rater(tenant, body.rater) != rater:
                raise Forbidden("the feedback token is not for this rater", param="rater")
            return Voter(tenant, rater)
        principal = await self.auth.principal(request, Scope.FEEDBACK)
        if not all(self.identity.owns(principal.tenant, response) for response in responses):
            raise NotFound("there is no such response", param="response_id")
        return Voter(principal.tenant, self.identity.rater(principal.tenant, body.rater) if body.rater else None)

    async def cast(self, voter: Voter, body: VoteBody, vote: Feedback, idempotency_key: str | None) -> Receipt:
        """Returns once the vote is durable; raises Unavailable where it can be kept nowhere."""
        header = self._header(voter, body, vote, idempotency_key)
        envelope, stored = await self.keep(FEEDBACK_TOPIC, log_key(vote), vote, header)
        self.metrics.votes.labels(stored).inc()
        return Receipt(feedback_id=envelope.event_id, stored=stored)

    async def keep(self, topic: str, key: str, body: BaseModel, header: Header) -> tuple[Envelope, Stored]:
        """Returns once the event is durable, and where; raises Unavailable where it can be kept nowhere."""
        try:
            envelope = await asyncio.to_thread(self.sealer.wrap, body, header)
            return envelope, await self._store(Entry(topic, key, envelope.model_dump_json().encode()))
        except (SpoolFull, OSError, sqlite3.Error) as error:
            log.error("event_refused", topic=topic, reason=str(error))
            raise Unavailable("it cannot be stored at the moment: send it again") from None

    async def _store(self, entry: Entry) -> Stored:
        """Waits for the log only while it answers: of the votes after the first one none has to find out again.

        A vote that the log takes after all is stored twice under one event id, which readers count once.
        """
        if self.shipper.log_away:
            await asyncio.to_thread(self._spool, entry)
            return "spool"
        acknowledged = asyncio.wrap_future(self.producer.append(entry.topic, entry.key, entry.value))
        try:
            await asyncio.wait_for(acknowledged, self.settings.log_ack_timeout_s)
        except (LogUnavailable, TimeoutError) as error:
            log.warning("vote_spooled", reason=str(error) or "the log did not acknowledge in time")
            self.shipper.suspect()
            await asyncio.to_thread(self._spool, entry)
            return "spool"
        return "log"

    def _spool(self, entry: Entry) -> None:
        self.spool.sync(self.spool.append(entry))

    def _header(self, voter: Voter, body: VoteBody, vote: Feedback, idempotency_key: str | None) -> Header:
        unsaid = body.consent_train is None
        train = self.settings.consent_default if unsaid else bool(body.consent_train)
        return Header(
            tenant=voter.tenant,
            rater=voter.rater,
            session_id=vote.session_id,
            source=body.source,
            consent=Consent(train=train, explicit=not unsaid),
            event_id=event_id(voter, vote, body.source, idempotency_key) if idempotency_key else None,
            occurred_at=now(),
        )


def event_id(voter: Voter, vote: Feedback, source: Source, idempotency_key: str) -> UUID:
    """The same vote under the same key is the same event, whichever gateway takes it."""
    parts = ("thumbwheel", voter.tenant, vote_key(voter.rater, vote, source), idempotency_key)
    return uuid5(NAMESPACE_URL, "\0".join(parts))


def log_key(vote: Feedback) -> str:
    """All votes on one answer, or one pair, stay in order."""
    if vote.groups:
        return min(item.response_id for item in vote.items)
    return vote.response_id or vote.session_id or ""


def shared(body: VoteBody) -> dict[str, Any]:
    """The fields that every vote passes on as they are."""
    return body.model_dump(include={"reasons", "comment", "latency_ms"})
