"""The engines over HTTP: pooled connections, and each way they can fail as an error of ours."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import structlog

from gateway.errors import BadRequest, EngineFailed, EngineTimeout, GatewayError, Unavailable
from infra.contracts.routing import Replica
from infra.settings import GatewaySettings

log = structlog.get_logger()

PATH = "/v1/chat/completions"
DONE = b"[DONE]"
KEEPALIVE_S = 3.0  # below vLLM's own 5 s, so that it never closes a connection we are about to use


class UnknownVersion(GatewayError):
    """The engine does not have this adapter (any more)."""

    status = 404


class EngineAway(Unavailable):
    """No connection, or one that broke before the answer began: answers have no side effects, so asking again is safe."""

    default_code = "engine_unavailable"


class Engines:
    """One pool for all replicas. `key` is what private engines ask of their callers."""

    def __init__(self, settings: GatewaySettings, key: str) -> None:
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=settings.connect_timeout_s, sock_read=settings.upstream_timeout_s
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=settings.upstream_connections, keepalive_timeout=KEEPALIVE_S),
            timeout=timeout,
            headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
        )

    async def ask(self, replica: Replica, body: dict[str, Any], response_id: str) -> aiohttp.ClientResponse:
        """The answer's head has arrived and it is a 200; the caller closes it. Raises a GatewayError.

        The engine makes its own id from `X-Request-Id`, so that both sides log the same one.
        """
        headers = {"X-Request-Id": response_id.removeprefix("chatcmpl-")}
        try:
            reply = await self._session.post(f"{replica.address}{PATH}", data=orjson.dumps(body), headers=headers)
        except (aiohttp.ConnectionTimeoutError, aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            log.warning("engine_away", replica=replica.name, reason=str(error))
            raise EngineAway("the engine cannot be reached") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise failure(error, replica) from None
        if reply.status == 200:
            return reply
        raise await self._refused(reply, replica)

    async def close(self) -> None:
        await self._session.close()

    async def _refused(self, reply: aiohttp.ClientResponse, replica: Replica) -> GatewayError:
        async with reply:
            try:
                said = await reply.read()
            except (aiohttp.ClientError, TimeoutError) as error:
                return failure(error, replica)
        return refusal(reply.status, said, replica)


async def events(reply: aiohttp.ClientResponse) -> AsyncIterator[list[bytes]]:
    """The data of each server-sent event, those that arrive together at once. Raises aiohttp's errors."""
    rest = b""
    async for data in reply.content.iter_any():
        *whole, rest = (rest + data).split(b"\n\n")
        if found := [event[6:] for event in whole if event.startswith(b"data: ")]:
            yield found


def failure(error: Exception, replica: Replica) -> GatewayError:
    """A connection that broke, or fell silent, after the request was sent."""
    if isinstance(error, TimeoutError):
        log.warning("engine_silent", replica=replica.name)
        return EngineTimeout("the engine did not answer in time")
    log.warning("engine_broke_off", replica=replica.name, reason=f"{type(error).__name__}: {error}")
    return EngineFailed("the engine broke off")


def refusal(status: int, said: bytes, replica: Replica) -> GatewayError:
    """The engine's own words where the request is to blame; where it is the engine, the log has them."""
    error = engine_error(said)
    if status in (400, 413, 422):
        return BadRequest(error.get("message") or "the engine refused the request", param=error.get("param"))
    if status == 404:
        return UnknownVersion(error.get("message") or "the engine does not have this version")
    log.error("engine_refused", replica=replica.name, status=status, type=error.get("type"))
    if status in (429, 503):
        return EngineAway("the engine takes no more requests at the moment")
    return EngineFailed("the engine failed on this request")


def engine_error(said: bytes) -> dict[str, Any]:
    """`error` of an error body; empty where it is anything else."""
    try:
        body = orjson.loads(said)
    except orjson.JSONDecodeError:
        return {}
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}
