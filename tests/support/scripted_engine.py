"""A small OpenAI-compatible engine that answers as vLLM does, and fails on demand in ways that vLLM cannot be made to.

Each answer is its version's name spelled in tokens, so that a mixed answer shows.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from aiohttp import web

Failure = Literal[
    "none", "silent", "refuse", "crash", "busy", "die_early", "die_midway", "fail_midway", "garbage", "strange", "tool"
]
Json = dict[str, Any]
ARGUMENTS = '{"city": "Ulm"}'  # of a tool call; streamed in three pieces


@dataclass
class ScriptedEngine:
    """`known` are the versions it has; `script` holds the failures of the next requests, `pace_s` waits per token.

    `faults` are failures of all requests for a version; those for one in `held` wait for its event.
    """

    known: set[str] = field(default_factory=lambda: {"base"})
    script: deque[Failure] = field(default_factory=deque)
    faults: dict[str, Failure] = field(default_factory=dict)
    held: dict[str, asyncio.Event] = field(default_factory=dict)
    pace_s: float = 0.0
    tokens: int = 4
    key: str | None = None
    requests: list[Json] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    cancelled: int = 0
    address: str = ""

    async def complete(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        self.requests.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        failure = self.script.popleft() if self.script else self.faults.get(body["model"], "none")
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            return _error(401, "Unauthorized", "unauthorized")
        if body["model"] not in self.known:
            return _error(404, f"The model `{body['model']}` does not exist.", "NotFoundError")
        try:
            await self._wait_for(body["model"])
            if (refused := await self._refuse(failure, request)) is not None:
                return refused
            whole = self._stream(request, body, failure) if body.get("stream") else self._whole(body, failure)
            return await whole
        except (asyncio.CancelledError, ConnectionError):
            self.cancelled += 1
            raise

    async def _wait_for(self, version: str) -> None:
        if version in self.held:
            await self.held[version].wait()

    async def _refuse(self, failure: Failure, request: web.Request) -> web.StreamResponse | None:
        if failure == "silent":
            await asyncio.sleep(60)
        if failure == "refuse":
            return _error(400, "maximum context length is 8 tokens", "BadRequestError", param="messages")
        if failure == "crash":
            return _error(500, "EngineCore died at /secret/path", "InternalServerError")
        if failure == "busy":
            return _error(503, "overloaded", "ServiceUnavailable")
        if failure == "strange":
            return web.json_response(["no", "answer"])
        if failure == "garbage":
            return web.Response(body=b"<html>", content_type="application/json")
        return None

    async def _whole(self, body: Json, failure: Failure) -> web.StreamResponse:
        for _ in range(self.tokens):
            await self._wait()
        choices = [self._choice(body, index, failure) for index in range(body.get("n") or 1)]
        answer = {**_head(body, "chat.completion"), "choices": choices, "prompt_token_ids": [7, 8], "usage": _usage()}
        return web.json_response(answer)

    async def _stream(self, request: web.Request, body: Json, failure: Failure) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if failure == "die_early":
            _hang_up(request)
        n = body.get("n") or 1
        for index in range(n):
            first = {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
            await _send(response, {**_head(body), "choices": [first], "prompt_token_ids": [7, 8]})
        for at in range(self.tokens):
            await self._wait()
            if at == 2 and failure == "die_midway":
                _hang_up(request)
            if at == 2 and failure == "fail_midway":
                await _send(response, {"error": {"message": "boom", "type": "InternalServerError", "code": 500}})
                await response.write(b"data: [DONE]\n\n")
                return response
            for index in range(n):
                await _send(response, {**_head(body), "choices": [self._piece(body, index, at, failure)]})
        await _send(response, {**_head(body), "choices": [], "usage": _usage()})
        await response.write(b"data: [DONE]\n\n")
        return response

    def _choice(self, body: Json, index: int, failure: Failure) -> Json:
        text = "".join(self._token(body, index, at) for at in range(self.tokens))
        message: Json = {"role": "assistant", "content": text, "reasoning": None}
        if failure == "tool":
            message = {"role": "assistant", "content": None, "tool_calls": [_call(ARGUMENTS)]}
        return {
            "index": index,
            "message": message,
            "logprobs": {"content": [self._logprob(body, index, at) for at in range(self.tokens)]},
            "finish_reason": "tool_calls" if failure == "tool" else "stop",
            "stop_reason": None,
            "token_ids": list(range(100, 100 + self.tokens)),
        }

    def _piece(self, body: Json, index: int, at: int, failure: Failure) -> Json:
        delta: Json = {"content": self._token(body, index, at)}
        if failure == "tool":
            more = {"index": 0, "function": {"arguments": ARGUMENTS[5 * at - 5 : 5 * at]}}
            delta = {"tool_calls": [more if at else _call("", index=0)]}
        elif at == 1:
            delta = {}  # text that waits for its next token: vLLM sends the ids all the same
        elif at == 2:
            delta["content"] = self._token(body, index, 1) + self._token(body, index, 2)
        last = at == self.tokens - 1
        return {
            "index": index,
            "delta": delta,
            "logprobs": {"content": [self._logprob(body, index, at)]},
            "finish_reason": ("tool_calls" if failure == "tool" else "stop") if last else None,
            "token_ids": [100 + at],
        }

    def _token(self, body: Json, index: int, at: int) -> str:
        return f"{body['model']}/{index}.{at} "

    def _logprob(self, body: Json, index: int, at: int) -> Json:
        return {"token": self._token(body, index, at), "logprob": -0.5 - at, "bytes": [65], "top_logprobs": []}

    async def _wait(self) -> None:
        if self.pace_s:
            await asyncio.sleep(self.pace_s)


@asynccontextmanager
async def running_engine(engine: ScriptedEngine) -> AsyncIterator[ScriptedEngine]:
    """Serves on a free port until the block ends; `engine.address` says where."""
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/chat/completions", engine.complete)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    engine.address = f"http://{host}:{port}"
    try:
        yield engine
    finally:
        await runner.cleanup()


async def _send(response: web.StreamResponse, chunk: Json) -> None:
    await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")


def _hang_up(request: web.Request) -> NoReturn:
    assert request.transport is not None
    request.transport.abort()
    raise ConnectionResetError


def _head(body: Json, kind: str = "chat.completion.chunk") -> Json:
    return {"id": "chatcmpl-engine", "object": kind, "created": int(time.time()), "model": body["model"]}


def _usage() -> Json:
    return {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}


def _call(arguments: str, **more: int) -> Json:
    return {"id": "call-1", "type": "function", "function": {"name": "weather", "arguments": arguments}, **more}


def _error(status: int, message: str, kind: str, param: str | None = None) -> web.Response:
    error = {"message": message, "type": kind, "param": param, "code": status}
    return web.json_response({"error": error}, status=status)
