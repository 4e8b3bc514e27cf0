"""The composition root: picks the concrete parts, opens them with the app and closes them with it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response
from uuid6 import uuid7

from gateway import comparisons, documents, errors, feedback, health, models, queries, questions, raters
from gateway.admin import admin_router
from gateway.auth import Auth
from gateway.chat import Desk
from gateway.limits import BodyLimit, VoteCors
from gateway.metrics import Metrics
from gateway.mirrors import Mirrors
from gateway.recorder import ModelFacts, Recorder
from gateway.replies import Replies
from gateway.request_id import RequestId
from gateway.routing import Router
from gateway.services import Services, services
from gateway.upstream import Engines
from gateway.votes import BallotBox
from gateway.watch import Watch
from infra.eventlog.base import Producer
from infra.ports import Ports
from infra.shipping import Shipper, adopt
from infra.spool import Spool, SpoolTaken

ADOPT_S = 5.0  # how often spools of dead gateways are looked for

chat_router = APIRouter(tags=["chat"])


@chat_router.post(
    "/v1/chat/completions",
    response_model=None,
    responses=documents.CHAT_RESPONSES,
    openapi_extra=documents.CHAT_BODY,
)
async def chat(request: Request) -> Response:
    """OpenAI's chat completion. `id` is the handle for votes, `model` the version that answered."""
    return await services(request).desk.take(request)


def make_app(ports: Ports, address: str) -> FastAPI:
    """`address` is what the registry is told; the caller closes `ports`."""
    settings = ports.settings.gateway
    app = FastAPI(
        title="Thumbwheel gateway",
        version="1",
        description="Chat, votes and administration.",
        lifespan=lambda app: opened(app, ports, address),
        redirect_slashes=False,
    )
    for router in (
        chat_router, models.router, feedback.router, comparisons.router, questions.router, queries.router,
        raters.router, admin_router(), health.router,
    ):  # fmt: skip
        app.router.routes.extend(router.routes)  # as they are: including a router builds each of them anew
    errors.install(app)
    documents.install(app)
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    if settings.cors_origins:
        app.add_middleware(VoteCors, origins=settings.cors_origins)  # around the limit: a page may read its refusal too
    app.add_middleware(RequestId)
    return app


@asynccontextmanager
async def opened(app: FastAPI, ports: Ports, address: str) -> AsyncIterator[None]:
    """Opens everything, and closes it in the opposite order."""
    async with AsyncExitStack() as stack:
        app.state.services = await _open(stack, ports, address)
        yield


async def _open(stack: AsyncExitStack, ports: Ports, address: str) -> Services:
    settings, metrics = ports.settings.gateway, Metrics()
    producer = ports.eventlog.producer()
    stack.callback(producer.close)
    spool = make_spool(ports.home / "spool", settings.spool_max_bytes)
    shipper = Shipper(spool, producer, on_shipped=metrics.shipped.inc)
    shipper.start()
    stack.callback(shipper.close)
    engines = Engines(settings, ports.engine_key)
    stack.push_async_callback(engines.close)
    router = Router(ports.identity.fraction)
    watch = Watch(spool.directory.name, address, settings, ports.database, router, metrics, ports.bell)
    stack.push_async_callback(watch.forget)
    await watch.begin()
    adopting = _adopting(spool.directory.parent, producer, settings.spool_max_bytes)
    for work in (watch.follow(), watch.listen(), watch.beat(), adopting):
        stack.push_async_callback(_stop, asyncio.create_task(work))
    auth = Auth(watch, ports.identity)
    facts = ModelFacts.of(ports.settings.serving.model)
    recorder = Recorder(spool, ports.sealer, facts, consent_default=settings.consent_default, metrics=metrics)
    replies = Replies(router, engines, ports.identity)
    mirrors = Mirrors(replies, recorder, metrics, settings.mirror_most)
    stack.push_async_callback(mirrors.close)
    desk = Desk(router, replies, recorder, mirrors, ports.identity, auth, metrics, settings.token_ttl_s)
    stack.push_async_callback(desk.settle)
    ballots = BallotBox(auth, ports.identity, ports.sealer, producer, spool, shipper, metrics, settings)
    return Services(
        settings, ports.artifacts, auth, ballots, ports.database, desk, ports.identity, metrics,
        ports.settings.serving.rollout_steps, router, ports.sealer, shipper, spool, watch,
    )  # fmt: skip


def make_spool(root: Path, max_bytes: int) -> Spool:
    """A new directory for each process: what an earlier one left is adopted, by whoever comes first."""
    while True:
        try:
            return Spool(root / f"gateway-{uuid7().hex}", max_bytes=max_bytes)
        except SpoolTaken:
            continue


async def _adopting(root: Path, producer: Producer, max_bytes: int) -> None:
    """Until cancelled; then those that still ship let go."""
    shippers: list[Shipper] = []
    try:
        while True:
            shippers = [shipper for shipper in shippers if shipper.is_alive()]
            shippers += await asyncio.to_thread(adopt, root, producer, max_bytes=max_bytes)
            await asyncio.sleep(ADOPT_S)
    finally:
        for shipper in shippers:
            shipper.close()


async def _stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])
