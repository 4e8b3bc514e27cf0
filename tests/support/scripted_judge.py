"""An OpenAI-compatible endpoint in a thread of its own, whose model says of two answers what a test wants."""

import asyncio
import json
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Shown = dict[str, Any]  # what was put to it: conversation, A, B
Opinion = Callable[[Shown], str]  # A, B or tie


def always_first(_shown: Shown) -> str:
    return "A"


def longer(shown: Shown) -> str:
    """Whoever writes more is better; as long is a tie."""
    a, b = (len(shown[side]["content"]) for side in "AB")
    return "tie" if a == b else "A" if a > b else "B"


@dataclass
class ScriptedJudge:
    """`script` holds what the next requests get instead of an answer: a status, or a body."""

    opinion: Opinion = longer
    form: str = "json_schema"
    key: str | None = None
    script: deque[int | str] = field(default_factory=deque)
    requests: list[dict[str, Any]] = field(default_factory=list)
    most_at_once: int = 0
    url: str = ""
    _now: int = 0

    async def complete(self, request: web.Request) -> web.Response:
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            return await self._answer(request)
        finally:
            self._now -= 1

    async def _answer(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        self.requests.append(body)
        await asyncio.sleep(0)  # others may come in
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": {"message": "Incorrect API key provided"}}, status=401)
        instead = self.script.popleft() if self.script else None
        if isinstance(instead, int) and instead != 200:
            return web.json_response({"error": {"message": "no answer today"}}, status=instead)
        if isinstance(instead, str):
            return web.Response(text=instead, content_type="application/json")
        said = self.opinion(json.loads(body["messages"][1]["content"]))
        content = json.dumps({"better": said}) if self.form == "json_schema" else said[0].upper()
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105}
        return web.json_response({"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage})


def completion(content: object) -> str:
    """A chat completion that says this."""
    return json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]})


@contextmanager
def running_judge(judge: ScriptedJudge) -> Iterator[ScriptedJudge]:
    """Serves on a free port until the block ends; `judge.url` says where."""
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(asyncio.run, _serve(judge, started))
        loop, stop = started.result(10)
        try:
            yield judge
        finally:
            loop.call_soon_threadsafe(stop.set)
            serving.result(10)


async def _serve(judge: ScriptedJudge, started: "Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]") -> None:
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/chat/completions", judge.complete)
    runner, stop = web.AppRunner(app, shutdown_timeout=0.1), asyncio.Event()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    judge.url = f"http://{host}:{port}/v1"
    started.set_result((asyncio.get_running_loop(), stop))
    await stop.wait()
    await runner.cleanup()
