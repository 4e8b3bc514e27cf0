"""`/healthz`: the process lives; `/readyz`: what it needs is reached; `/metrics`."""

from collections.abc import Iterator

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import PlainTextResponse, Response

from gateway.services import Services, services

REGISTRY_AGE_S = 5.0  # a registry that was not read for longer is away

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
async def healthz() -> Response:
    return PlainTextResponse("ok\n")


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """One line for each thing that is missing."""
    if found := list(missing(services(request))):
        return PlainTextResponse("\n".join(found), status_code=503)
    return PlainTextResponse("ok\n")


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    room = services(request)
    room.metrics.spool_bytes.set(room.spool.unshipped_bytes)
    return Response(generate_latest(room.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def missing(room: Services) -> Iterator[str]:
    if room.watch.age_s > REGISTRY_AGE_S:
        yield f"registry: not read for {room.watch.age_s:.0f} s"
    if room.router.table is None:
        yield "routing: no table has been published"
    elif not room.router.has_ready_replica:
        yield "engine: no replica is ready"
    if room.spool.unshipped_bytes >= room.settings.spool_max_bytes:
        yield "spool: full"
