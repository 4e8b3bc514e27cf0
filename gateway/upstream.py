"""The engines over HTTP: pooled connections, and each way they can fail as an error of ours."""

from collections.abc import Iterator
from typing import Any

import aiohttp
import orjson
import structlog

from gateway.errors import BadRequest, EngineAway, EngineBroke, EngineFailed, EngineTimeout, GatewayError
from infra.contracts.routing import Replica
from infra.settings import GatewaySettings

log = structlog.get_logger()

PATH = "/v1/chat/completions"
DONE = b"[DONE]"
KEEPALIVE_S = 3.0  # below vLLM's own 5 s, so that it never closes a connection we are about to use


class UnknownVersion(GatewayError):
    """The engine does not have this adapter (any more)."""

    status = 404


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


async def whole(reply: aiohttp.ClientResponse, replica: Replica) -> dict[str, Any]:
    """The body of an answer that is not streamed. Raises EngineFailed or EngineTimeout."""
    try:
        return decode(await reply.read(), replica)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise failure(error, replica) from None


class Events:
    """What each server-sent event holds, those that arrive together at once; None is their end.

    Raises EngineFailed or EngineTimeout, also while what has arrived is gone through.
    """

    def __init__(self, reply: aiohttp.ClientResponse, replica: Replica) -> None:
        self._pieces, self._replica, self._rest = reply.content.iter_any(), replica, b""

    def __aiter__(self) -> "Events":
        return self

    async def __anext__(self) -> Iterator[dict[str, Any] | None]:
        try:
            while True:
                *complete, self._rest = (self._rest + await self._pieces.__anext__()).split(b"\n\n")
                if found := [event[6:] for event in complete if event.startswith(b"data: ")]:
                    return (None if data == DONE else decode(data, self._replica) for data in found)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise failure(error, self._replica) from None


def decode(data: bytes, replica: Replica) -> dict[str, Any]:
    """An answer, or a piece of one. Raises EngineFailed where it makes no sense, and what an `error` in it says."""
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        log.error("engine_answer_unreadable", replica=replica.name, bytes=len(data))
        raise EngineFailed("the engine's answer cannot be read") from None
    if isinstance(body, dict) and "error" in body:
        raise failed_midway(data, replica)
    if not isinstance(body, dict) or not isinstance(body.get("choices"), list):
        log.error("engine_answer_strange", replica=replica.name, bytes=len(data))
        raise EngineFailed("the engine's answer makes no sense")
    return body


def failure(error: Exception, replica: Replica) -> GatewayError:
    """A connection that broke, or fell silent, after the request was sent."""
    if isinstance(error, TimeoutError):
        log.warning("engine_silent", replica=replica.name)
        return EngineTimeout("the engine did not answer in time")
    log.warning("engine_broke_off", replica=replica.name, reason=f"{type(error).__name__}: {error}")
    return EngineBroke("the engine broke off")


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


def failed_midway(said: bytes, replica: Replica) -> GatewayError:
    """After its 200 the engine may still find fault with the request, but cannot be without the version any more."""
    error = engine_error(said)
    if error.get("code") == 400:
        return BadRequest(error.get("message") or "the engine refused the request", param=error.get("param"))
    log.error("engine_failed_midway", replica=replica.name, type=error.get("type"))
    return EngineFailed("the engine failed on this request")


def engine_error(said: bytes) -> dict[str, Any]:
    """`error` of an error body; empty where it is anything else."""
    try:
        body = orjson.loads(said)
    except orjson.JSONDecodeError:
        return {}
    error = body.get("error") if isinstance(body, dict) else None
    return error if isinstance(error, dict) else {}
