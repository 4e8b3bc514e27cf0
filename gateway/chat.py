"""One answer, from the request to the event: route, ask the engine, pass on what was asked for, record the rest."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.auth import TOKEN_HEADER, Auth
from gateway.capture import Capture
from gateway.chat_request import parse
from gateway.errors import (
    BadRequest,
    EngineAway,
    EngineBroke,
    EngineFailed,
    EngineTimeout,
    GatewayError,
    NotFound,
    Unavailable,
    error_body,
)
from gateway.metrics import Metrics
from gateway.mirrors import Mirrors
from gateway.pairs import side_by_side
from gateway.presence import ClientGone, WhilePresent
from gateway.recorder import Asked, Recorder
from gateway.replies import Replies, Reply
from gateway.routing import PINNED, Router, Target
from gateway.upstream import DONE, UnknownVersion
from gateway.visible import View
from infra.clock import now
from infra.contracts.events import InferenceStatus
from infra.identity import FeedbackGrant, Identity
from infra.registry import keys

log = structlog.get_logger()

SETTLE_S = 5.0


class Stopping(Unavailable):
    """This process was given time to finish what it had begun, and the time is over."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What every answer needs; one per process."""

    router: Router
    replies: Replies
    recorder: Recorder
    mirrors: Mirrors
    identity: Identity
    auth: Auth
    metrics: Metrics
    token_ttl_s: float
    answering: set["asyncio.Task[Any]"] = field(default_factory=set)

    async def settle(self) -> None:
        """Until what was cut short at the end of the process has been recorded."""
        if self.answering:
            await asyncio.wait(set(self.answering), timeout=SETTLE_S)

    async def take(self, request: Request) -> Response:
        """The answer, begun when the response is called."""
        started = time.perf_counter()
        principal = await self.auth.principal(request, keys.Scope.CHAT)
        try:
            body = await request.body()
        except ClientDisconnect:
            raise BadRequest("the request's body broke off") from None
        parsed, sent = parse(body)
        response_id = self.identity.new_response_id(principal.tenant)
        structlog.contextvars.bind_contextvars(response_id=response_id)
        asked = Asked(
            response_id=response_id,
            tenant=principal.tenant,
            rater=self.identity.rater(principal.tenant, parsed.person) if parsed.person else None,
            request=parsed,
            sent=sent,
            bytes=len(body),
            started_at=now(),
        )
        self._check_lineage(asked)
        return Answer(self, asked, admin=keys.Scope.ADMIN in principal.scopes, started=started)

    def _check_lineage(self, asked: Asked) -> None:
        about = asked.request.about
        for name in ("parent_response_id", "regenerated_from"):
            named = getattr(about, name)
            if named is not None and not self.identity.owns(asked.tenant, named):
                raise BadRequest("there is no such response", param=f"metadata.{name}")


class Answer(Response):
    """Errors before the first byte are raised, for the one handler to render; later ones are said in the stream."""

    def __init__(self, desk: Desk, asked: Asked, *, admin: bool, started: float) -> None:
        self._desk, self._asked, self._admin, self._started = desk, asked, admin, started
        self._capture = Capture(asked.request.n or 1)
        self._target: Target | None = None
        self._begun = self._recorded = False
        self.background = None

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        self._send = send
        task = asyncio.current_task()
        assert task is not None
        self._desk.answering.add(task)
        try:
            async with WhilePresent(receive):
                await self._give()
            self._desk.mirrors.take(self._asked, self._chosen)
        except ClientGone:
            await self._record(InferenceStatus.CANCELLED)
        except asyncio.CancelledError:
            await self._fail(Stopping("this gateway is being stopped: ask again"))
        except GatewayError as error:
            await self._fail(error)
        finally:
            self._desk.answering.discard(task)
            self._desk.metrics.answer_seconds.observe(time.perf_counter() - self._started)

    async def _fail(self, error: GatewayError) -> None:
        """What a client has seen a part of, or the engine may have worked on, is recorded."""
        if self._begun or isinstance(error, EngineFailed | EngineTimeout | Stopping):
            await self._record(InferenceStatus.FAILED)
        self._desk.metrics.refusals.labels(error.status).inc()
        if not self._begun:
            raise error
        if self._asked.request.stream:
            await self._end_with(error)

    async def _give(self) -> None:
        """Chooses and counts in one step, so that every heartbeat reports this answer under its version."""
        target = self._draw()
        try:
            await self._give_by(target)
        except UnknownVersion:
            if target.arm == PINNED:
                raise NotFound(f"The model `{target.version}` is not loaded.", code="model_not_found") from None
            await self._give_by_champion(target)
        except (EngineAway, EngineFailed, EngineTimeout):
            if self._begun or not target.sides:
                raise
            await self._give_by_champion(target)

    def _draw(self) -> Target:
        router, asked = self._desk.router, self._asked
        model, takes_part = asked.request.model, asked.request.about.rollouts == "true"
        pair = router.pair(model, asked.response_id) if takes_part and asked.may_be_paired else None
        return pair or router.choose(model, asked.unit, admin=self._admin, takes_part=takes_part)

    async def _give_by_champion(self, target: Target) -> None:
        """Nothing of the first try is kept, not even as evidence."""
        self._desk.metrics.reroutes.inc()
        log.warning("answer_rerouted", version=target.version, arm=target.arm)
        self._capture = Capture(self._asked.request.n or 1)
        try:
            await self._give_by(self._desk.router.champion(target))
        except UnknownVersion:
            raise EngineAway("no engine has the champion loaded") from None

    async def _give_by(self, target: Target) -> None:
        """Raises UnknownVersion where no replica has it, EngineAway where none can be reached, EngineBroke where one
        broke off. As long as the client has seen nothing, another one is asked."""
        self._target = target
        with self._desk.router.counting(*target.versions):
            try:
                await self._give_once(target)
            except EngineBroke:
                if self._begun or target.sides:
                    raise
                self._capture = Capture(self._asked.request.n or 1)
                await self._give_once(target)

    async def _give_once(self, target: Target) -> None:
        asked, desk = self._asked, self._desk
        opened = side_by_side(desk.replies, asked, target) if target.sides else desk.replies.to(asked, target)
        async with opened as reply:
            desk.metrics.first_byte_seconds.observe(time.perf_counter() - self._started)
            await (self._stream(reply) if asked.request.stream else self._whole(reply))

    async def _whole(self, reply: Reply) -> None:
        body = await reply.whole()
        self._capture.take_body(body)
        await self._record(InferenceStatus.COMPLETED)
        shown = orjson.dumps(self._view().body(body))
        await self._begin({"content-type": "application/json", "content-length": str(len(shown))})
        await self._send({"type": "http.response.body", "body": shown})

    async def _stream(self, reply: Reply) -> None:
        """What tells the client that the answer is complete is held back until the event is safe."""
        view, held = self._view(), list[bytes]()
        async for batch in reply.pieces():
            ready: list[bytes] = []
            for chunk in batch:
                if chunk is None:
                    await self._record(InferenceStatus.COMPLETED)
                    return await self._write([*ready, *held, sse(DONE)], more=False)
                self._capture.take_chunk(chunk)
                if (shown := view.chunk(chunk)) is not None:
                    (held if self._capture.finished else ready).append(sse(orjson.dumps(shown)))
            if ready:
                await self._write(ready)
        raise EngineBroke("the engine broke off")

    async def _write(self, pieces: list[bytes], *, more: bool = True) -> None:
        if not self._begun:
            await self._begin({"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"})
        await self._send({"type": "http.response.body", "body": b"".join(pieces), "more_body": more})

    async def _end_with(self, error: GatewayError) -> None:
        """The SDK raises on a chunk with `error`; no [DONE] follows, since nothing was completed."""
        await self._write([sse(orjson.dumps(error_body(error)))], more=False)

    async def _begin(self, headers: Mapping[str, str]) -> None:
        self._begun = True
        named = {**headers, **self._own_headers()}
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": raw})

    def _own_headers(self) -> dict[str, str]:
        asked, target = self._asked, self._chosen
        grant = FeedbackGrant(asked.tenant, asked.response_id, asked.rater)
        return {
            TOKEN_HEADER: self._desk.identity.sign(grant, ttl_s=self._desk.token_ttl_s),
            "x-thumbwheel-version": target.version,
            "x-thumbwheel-arm": target.arm,
            "x-request-id": asked.response_id,
        }

    def _view(self) -> View:
        request = self._asked.request
        return View(
            response_id=self._asked.response_id,
            model=self._chosen.version,
            logprobs=bool(request.logprobs),
            token_ids=bool(request.return_token_ids),
            usage=request.wants_usage,
        )

    @property
    def _chosen(self) -> Target:
        assert self._target is not None
        return self._target

    async def _record(self, status: InferenceStatus) -> None:
        """Once: a client that leaves after the answer was recorded has still been answered."""
        if self._target is None or self._recorded:
            return
        self._recorded = True
        await self._desk.recorder.record(self._asked, self._target, self._capture, status)


def sse(data: bytes) -> bytes:
    """One server-sent event."""
    return b"data: " + data + b"\n\n"
