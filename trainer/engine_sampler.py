"""Samples from the served engine: training and users see one sampler, and users go first."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from trainer.data import Prompt
from trainer.errors import StageFailed, TryAgain
from trainer.sampling import Sampled

PRIORITY = 10  # lower goes first; users' requests have 0
CONNECTIONS = 64
TIMEOUT_S = 300.0
NOT_FOUND = 404
SERVER_ERROR = 500


class EngineSampler:
    """One client over all addresses, used from one thread. Close it when done.

    Every request has a connection of its own: while a step trains nobody listens for the engine hanging up, which it
    does after 5 s, and the next request would be sent into a dead connection.
    Raises TryAgain where an engine is away, StageFailed where it refuses.
    """

    apart = True

    def __init__(self, addresses: Sequence[str], api_key: str, served_model: str) -> None:
        self._addresses = [address.rstrip("/") for address in addresses]
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._served_model = served_model
        self._published: dict[str, Path] = {}
        self._runner = asyncio.Runner()
        self._session: aiohttp.ClientSession | None = None

    def sample(
        self,
        prompts: Sequence[Prompt],
        *,
        adapter: str | None,
        n: int,
        temperature: float,
        top_p: float,
        max_tokens: int,
        seed: int,
    ) -> list[list[Sampled]]:
        shared = {
            "model": adapter or self._served_model,
            "n": n,
            "temperature": temperature,
            "top_p": top_p,
            "max_tokens": max_tokens,
            **SPELLED_OUT,
        }
        bodies = [{**shared, **_asked(prompt), "seed": seed + i * n} for i, prompt in enumerate(prompts)]
        answers = self._runner.run(self._ask_all(bodies))
        return [[_sampled(answer, choice) for choice in answer["choices"]] for answer in answers]

    def publish(self, name: str, directory: Path) -> None:
        self._published[name] = directory
        self._runner.run(self._everywhere(self._load(name, address) for address in self._addresses))

    def retire(self, name: str) -> None:
        self._published.pop(name, None)
        self._runner.run(self._everywhere(self._unload(name, address) for address in self._addresses))

    def close(self) -> None:
        if self._session:
            self._runner.run(self._session.close())
        self._runner.close()

    async def _ask_all(self, bodies: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        spread = (self._addresses[i % len(self._addresses)] for i in range(len(bodies)))
        return await self._everywhere(self._ask(address, body) for address, body in zip(spread, bodies, strict=True))

    async def _ask(self, address: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """An engine that was restarted has lost its adapters: it gets ours back once."""
        status, answer = await self._post(f"{address}/v1/chat/completions", body)
        if status == NOT_FOUND and body["model"] in self._published:
            await self._load(body["model"], address)
            status, answer = await self._post(f"{address}/v1/chat/completions", body)
        return dict(_checked(status, answer))

    async def _load(self, name: str, address: str) -> None:
        body = {"lora_name": name, "lora_path": str(self._published[name].absolute())}
        status, answer = await self._post(f"{address}/v1/load_lora_adapter", body)
        if "already been loaded" not in str(answer):
            _checked(status, answer)

    async def _unload(self, name: str, address: str) -> None:
        status, answer = await self._post(f"{address}/v1/unload_lora_adapter", {"lora_name": name})
        if status != NOT_FOUND:
            _checked(status, answer)

    async def _post(self, url: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        """A refused load answers in plain text where a good one does, so the body is read by its type."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=CONNECTIONS, force_close=True)
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=self._headers)
        try:
            async with self._session.post(url, json=body) as response:
                is_json = response.content_type == "application/json"
                return response.status, await (response.json() if is_json else response.text())
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TryAgain(f"the engine at {url} is away: {error or type(error).__name__}") from error

    async def _everywhere(self, calls: Any) -> list[Any]:
        """The first failure cancels the rest and is raised as it is."""
        tasks = [asyncio.ensure_future(call) for call in calls]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()


SPELLED_OUT = {
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "logprobs": True,
    "top_logprobs": 0,
    "return_token_ids": True,
    "priority": PRIORITY,
}


def _asked(prompt: Prompt) -> dict[str, Any]:
    """Tools go into the prompt, but the answer comes back as it was written: no parser in between."""
    tools = {"tools": list(prompt.tools), "tool_choice": "none"} if prompt.tools else {}
    return {"messages": list(prompt.messages), **tools}


def _sampled(answer: Mapping[str, Any], choice: Mapping[str, Any]) -> Sampled:
    return Sampled(
        prompt_ids=answer["prompt_token_ids"],
        token_ids=choice["token_ids"],
        logprobs=[token["logprob"] for token in choice["logprobs"]["content"]],
        finish_reason=choice["finish_reason"],
        text=choice["message"]["content"] or "",
    )


def _checked(status: int, answer: Any) -> Any:
    if status >= SERVER_ERROR:
        raise TryAgain(f"the engine answered {status}: {str(answer)[:200]}")
    if status >= 400:
        raise StageFailed(f"the engine refused with {status}: {str(answer)[:200]}")
    return answer
