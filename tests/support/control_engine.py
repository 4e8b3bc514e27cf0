"""An engine where only the controller's requests matter: adapters by name, health, next-token log-probabilities."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from infra.contracts.manifests import SmokeCase

KEY = "engine-secret"
Json = dict[str, Any]


@dataclass
class ControlEngine:
    """A base of its own computes `base_off` nats from what others of it do; `started` is what /metrics says.

    `knows` are the cases it computes as the trainer did, `off` nats away; `elsewhere` are its top ones after any
    other prompt. `refuses` maps a name to what a load of it is told; `calls` are (path, name) of loads and unloads."""

    key: str = KEY
    adapters: dict[str, str] = field(default_factory=dict)
    knows: list[SmokeCase] = field(default_factory=list)
    refuses: dict[str, str] = field(default_factory=dict)
    started: float | None = 1.0
    base: str = "base"
    base_off: float = 0.0
    busy: int = 0
    off: float = 0.0
    elsewhere: list[float | None] = field(default_factory=lambda: [-0.01])
    healthy: bool = True
    delay_s: float = 0.0
    calls: list[tuple[str, str]] = field(default_factory=list)
    requests: list[Json] = field(default_factory=list)
    address: str = ""

    def restart(self) -> None:
        """A fresh engine has nothing loaded."""
        self.adapters.clear()
        self.started = (self.started or 0.0) + 1

    def names(self, path: str) -> list[str]:
        return [name for called, name in self.calls if called == path]

    @property
    def asked(self) -> set[str]:
        """The names it was asked to compute with."""
        return {request["model"] for request in self.requests}

    @web.middleware
    async def guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        await asyncio.sleep(self.delay_s)
        if not self.healthy:
            return web.Response(status=503)
        answer: web.StreamResponse = await handler(request)
        return answer

    async def health(self, _request: web.Request) -> web.Response:
        return web.Response()

    async def models(self, _request: web.Request) -> web.Response:
        cards = [{"id": self.base, "parent": None, "max_model_len": 512}]
        return web.json_response({"data": [*cards, *({"id": name, "parent": self.base} for name in self.adapters)]})

    async def metrics(self, _request: web.Request) -> web.Response:
        lines = [
            f"process_start_time_seconds {self.started}" if self.started is not None else "",
            f'vllm:num_requests_running{{engine="0"}} {self.busy}.0',
            'vllm:num_requests_waiting{engine="0"} 1.0',
        ]
        return web.Response(text="\n".join(lines))

    async def load(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = body["lora_name"]
        self.calls.append(("load", name))
        if name in self.refuses:
            return web.json_response({"error": {"message": self.refuses[name]}}, status=500)
        if name in self.adapters:
            return web.json_response({"error": {"message": f"{name} has already been loaded"}}, status=400)
        self.adapters[name] = body["lora_path"]
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def unload(self, request: web.Request) -> web.Response:
        name = (await request.json())["lora_name"]
        self.calls.append(("unload", name))
        if self.adapters.pop(name, None) is None:
            return web.json_response({"error": {"message": f"{name} cannot be found"}}, status=404)
        return web.Response(text="Success")

    async def complete(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        if body["model"] == self.base:
            top = {f"token_id:{len(body['prompt'])}": -0.5 + self.base_off, "token_id:99": -5.0}
            return web.json_response({"choices": [{"logprobs": {"top_logprobs": [top]}}]})
        if body["model"] not in self.adapters:
            return web.json_response({"error": {"message": f"no model {body['model']}"}}, status=404)
        top = {f"token_id:{token}": score + self.off for token, score in self._next(body["prompt"])}
        other = {f"token_id:{1000 + token}": score for token, score in enumerate(self.elsewhere)}
        return web.json_response({"choices": [{"logprobs": {"top_logprobs": [top or other]}}]})

    def _next(self, prompt: list[int]) -> list[tuple[int, float]]:
        at = len(prompt)
        cases = [case for case in self.knows if case.token_ids[:at] == prompt and len(case.token_ids) > at]
        return [(case.token_ids[at], case.logprobs[at - 1]) for case in cases]


@asynccontextmanager
async def running_control_engine(**fields: Any) -> AsyncIterator[ControlEngine]:
    """Serves on a free port until the block ends; `address` says where."""
    engine = ControlEngine(**fields)
    app = web.Application(middlewares=[engine.guard])
    app.router.add_get("/health", engine.health)
    app.router.add_get("/v1/models", engine.models)
    app.router.add_get("/metrics", engine.metrics)
    app.router.add_post("/v1/load_lora_adapter", engine.load)
    app.router.add_post("/v1/unload_lora_adapter", engine.unload)
    app.router.add_post("/v1/completions", engine.complete)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    engine.address = f"http://{host}:{port}"
    try:
        yield engine
    finally:
        await runner.cleanup()
