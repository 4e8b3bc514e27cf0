"""A stand-in for the engine where only the trainer's requests matter: records each, answers as vLLM does."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

Json = dict[str, Any]


@dataclass
class SamplingEngine:
    """`adapters` are the loaded names. Statuses in `failures` are answered first, whatever is asked."""

    adapters: dict[str, str] = field(default_factory=dict)
    requests: list[Json] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    peers: list[object] = field(default_factory=list)
    address: str = ""

    async def complete(self, request: web.Request) -> web.Response:
        body = await self._seen(request)
        if self.failures:
            return web.json_response({"error": {"message": "scripted"}}, status=self.failures.pop(0))
        if body["model"] not in {"served", *self.adapters}:
            return web.json_response({"error": {"message": f"no model {body['model']}"}}, status=404)
        choices = [make_choice(number) for number in range(body["n"])]
        return web.json_response({"prompt_token_ids": [3, len(body["messages"][-1]["content"])], "choices": choices})

    async def load(self, request: web.Request) -> web.Response:
        body = await self._seen(request)
        if body["lora_name"] in self.adapters:
            text = f"The lora adapter '{body['lora_name']}' has already been loaded."
            return web.json_response({"error": {"message": text}}, status=400)
        self.adapters[body["lora_name"]] = body["lora_path"]
        return web.Response(text="Success: LoRA adapter added successfully.")

    async def unload(self, request: web.Request) -> web.Response:
        body = await self._seen(request)
        found = self.adapters.pop(body["lora_name"], None)
        return web.Response(text="Success") if found else web.json_response({"error": "unknown"}, status=404)

    async def _seen(self, request: web.Request) -> Json:
        body: Json = await request.json()
        self.keys.add(request.headers.get("Authorization", ""))
        self.requests.append(body)
        self.peers.append(request.transport and request.transport.get_extra_info("peername"))
        return body


def make_choice(number: int) -> Json:
    tokens = [{"token": "a", "logprob": -0.5 - number}, {"token": "<|end|>", "logprob": -0.1}]
    return {
        "index": number,
        "message": {"role": "assistant", "content": f"a{number}"},
        "finish_reason": "length" if number % 2 else "stop",
        "token_ids": [60 + number, 1],
        "logprobs": {"content": tokens},
    }


@contextmanager
def running_engine(engine: SamplingEngine) -> Iterator[SamplingEngine]:
    """On a thread and a loop of its own, since who asks it blocks."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(_start(engine), loop).result(10)
    try:
        yield engine
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _start(engine: SamplingEngine) -> web.AppRunner:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", engine.complete)
    app.router.add_post("/v1/load_lora_adapter", engine.load)
    app.router.add_post("/v1/unload_lora_adapter", engine.unload)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    engine.address = f"http://{host}:{port}"
    return runner
