"""A gateway in front of a scripted engine, and clients of both kinds: the stock SDK and plain HTTP."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai

from infra.contracts.events import Inference
from tests.support.scripted_engine import ScriptedEngine, running_engine
from tests.support.stack import Stack, make_stack, running_gateway

QUESTION = [{"role": "user", "content": "What does math.cos do?"}]
Json = dict[str, Any]


@dataclass
class Scene:
    """`sdk` and `http` speak with the client's key."""

    stack: Stack
    engine: ScriptedEngine
    url: str
    sdk: openai.AsyncOpenAI
    http: httpx.AsyncClient

    async def chat(self, **fields: Any) -> httpx.Response:
        """One whole answer over plain HTTP."""
        body = {"model": "assistant", "messages": QUESTION, **fields}
        return await self.http.post("/v1/chat/completions", json=body)

    async def answer_id(self, **fields: Any) -> str:
        return str((await self.chat(**fields)).json()["id"])

    async def admin(self, method: str, path: str, body: Json | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.stack.admin_key}"}
        return await self.http.request(method, f"/admin/v1{path}", json=body, headers=headers)

    async def inference(self, response_id: str) -> Inference:
        """The event of one answer, once it is in the log."""
        return next(i for i in await self.inferences(response_id) if i.response_id == response_id)

    async def inferences(self, *response_ids: str, count: int = 1) -> list[Inference]:
        """All events of the log, once it holds these, or so many."""

        def there() -> bool:
            found = [i.response_id for i in self.stack.inferences()]
            return set(response_ids) <= set(found) and len(found) >= count

        await eventually(there)
        return self.stack.inferences()

    async def republish(self, *, engines: Sequence[str] | None = None, **table: Any) -> None:
        """Returns once the gateway goes by the new table."""
        given = [self.engine.address] if engines is None else engines
        revision = self.stack.publish(engines=given, **table).revision
        await self.until_metric(f"thumbwheel_gateway_routing_revision {float(revision)}\n")

    async def until_metric(self, line: str, timeout_s: float = 20) -> None:
        """Until `/metrics` says so."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        while line not in (await self.http.get("/metrics")).text:
            assert asyncio.get_running_loop().time() < deadline, f"{line} was never said"
            await asyncio.sleep(0.02)


@asynccontextmanager
async def open_scene(
    home: Path, *, table: Json | None = None, engine: ScriptedEngine | None = None, **settings: Json
) -> AsyncIterator[Scene]:
    """`table` is what `Stack.publish` takes; the engine knows every version in it."""
    stack = make_stack(home, **{**settings, "gateway": {"routing_poll_s": 0.02, **settings.get("gateway", {})}})
    engine = engine or ScriptedEngine()
    engine.known |= {*(table or {}).get("versions", {}), *(table or {}).get("previous", ())}
    async with running_engine(engine):
        stack.publish(engines=[engine.address], **(table or {}))
        async with running_gateway(stack) as url, clients(url, stack.client_key) as (sdk, http):
            yield Scene(stack, engine, url, sdk, http)
    stack.ports.close()


@asynccontextmanager
async def clients(url: str, key: str) -> AsyncIterator[tuple[openai.AsyncOpenAI, httpx.AsyncClient]]:
    headers = {"Authorization": f"Bearer {key}"}
    plain = openai.DefaultAsyncHttpxClient(verify=False)  # no TLS here, and reading its certificates takes long
    async with (
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, http_client=plain) as sdk,
        httpx.AsyncClient(base_url=url, headers=headers, timeout=30, verify=False) as http,
    ):
        yield sdk, http


async def eventually(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    """Waits, in steps that let others work; fails after `timeout_s`."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not await asyncio.to_thread(condition):
        assert asyncio.get_running_loop().time() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)
