"""One engine over HTTP, as the controller needs it: alive, what is loaded, load, unload, prompt log-probabilities."""

import asyncio
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from infra.contracts.manifests import SmokeCase
from serving.errors import EngineRefused, EngineSilent, EngineUnreachable

PROBE_S = 5.0  # an engine that is merely busy answers within this
LOAD_S = 60.0
TOP = 20  # vLLM's own limit of logprobs
SMOKE_TOKENS = 4  # of each case: a swap waits for them
SMOKE_PRIORITY = -1  # before any user's request
STARTED = re.compile(r"^process_start_time_seconds (\S+)$", re.MULTILINE)
UNDER_WAY = re.compile(r"^vllm:num_requests_(?:running|waiting)\{[^}]*\} (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Look:
    """What an engine says of itself: the names it answers to, and when it started, in seconds since the epoch."""

    names: frozenset[str]
    started: float


class Engine:
    """Stateless but for its connections; `session` is the caller's."""

    def __init__(self, session: aiohttp.ClientSession, address: str, api_key: str) -> None:
        self._session, self._address = session, address
        self._headers = {"Authorization": f"Bearer {api_key}"}

    async def loaded(self) -> frozenset[str]:
        """Names the engine answers to, its base among them; raises EngineUnreachable while it can't answer."""
        await self._call("GET", "/health", timeout_s=PROBE_S)
        found = await self._call("GET", "/v1/models", timeout_s=PROBE_S)
        return frozenset(str(model["id"]) for model in found["data"])

    async def look(self) -> Look:
        """Raises EngineUnreachable, or EngineRefused where it does not say when it started.

        vLLM says so unless it runs several API servers, which can't load adapters at run time anyway.
        """
        names = await self.loaded()
        if (said := STARTED.search(await self._metrics())) is None:
            raise EngineRefused("/metrics has no process_start_time_seconds")
        return Look(names, float(said[1]))

    async def requests(self) -> int:
        """How many it answers, or will, just now."""
        return round(sum(float(count) for count in UNDER_WAY.findall(await self._metrics())))

    async def base(self) -> tuple[str, int]:
        """The name it knows its base under, and the longest prompt plus answer it takes; raises EngineRefused."""
        found = await self._call("GET", "/v1/models", timeout_s=PROBE_S)
        card = next((model for model in found["data"] if not model.get("parent")), None)
        if card is None:
            raise EngineRefused("/v1/models names no base model")
        return str(card["id"]), int(card.get("max_model_len") or 0)

    async def load(self, name: str, directory: Path) -> None:
        """The caller has validated it: the engine itself hardly checks."""
        body = {"lora_name": name, "lora_path": str(directory)}
        await self._call("POST", "/v1/load_lora_adapter", body, timeout_s=LOAD_S)

    async def unload(self, name: str) -> None:
        await self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name}, timeout_s=LOAD_S)

    async def top_logprobs(self, name: str, token_ids: list[int]) -> dict[int, float]:
        """The most probable next tokens after `token_ids`, in nats at temperature 1.

        Not by `prompt_logprobs`: beside other requests that ends the engine when an adapter is on (its LoRA logits
        processor knows the sampled positions of a batch only; vllm 0.32).
        """
        body = {
            "model": name,
            "prompt": token_ids,
            "max_tokens": 1,
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "logprobs": TOP,
            "return_tokens_as_token_ids": True,
            "ignore_eos": True,
            "priority": SMOKE_PRIORITY,
        }
        found = await self._call("POST", "/v1/completions", body, timeout_s=LOAD_S)
        top = found["choices"][0]["logprobs"]["top_logprobs"][0]
        return {int(token.removeprefix("token_id:")): _finite(value) for token, value in top.items()}

    async def _metrics(self) -> str:
        return str((await self._call("GET", "/metrics", timeout_s=PROBE_S))["text"])

    async def _call(self, method: str, path: str, body: object = None, *, timeout_s: float) -> dict[str, Any]:
        """What it answers; what is no JSON comes as its `text`."""
        try:
            async with self._session.request(
                method,
                self._address + path,
                json=body,
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as answer:
                text = await answer.text()
                return _decoded(answer, text, path)
        except (aiohttp.ClientError, TimeoutError) as error:
            kind = EngineSilent if isinstance(error, TimeoutError) else EngineUnreachable
            raise kind(f"{path}: {type(error).__name__} {error}".strip()) from None


async def requests_of(addresses: Iterable[str], api_key: str) -> list[int | None]:
    """How many requests each engine works on; None of one that does not say."""

    async def asked(session: aiohttp.ClientSession, address: str) -> int | None:
        try:
            return await Engine(session, address, api_key).requests()
        except (EngineUnreachable, EngineRefused):
            return None

    async with aiohttp.ClientSession() as session:
        return await asyncio.gather(*(asked(session, address) for address in addresses))


def _decoded(answer: aiohttp.ClientResponse, text: str, path: str) -> dict[str, Any]:
    if answer.status == 503:
        raise EngineUnreachable(f"{path}: the engine is not well (503)")
    if answer.status >= 400:
        raise EngineRefused(f"{path}: {answer.status} {text[:300]}")
    if not text or answer.content_type != "application/json":
        return {"text": text}
    return dict(json.loads(text))


def _finite(value: float | None) -> float:
    return math.nan if value is None else float(value)


async def smoke(engine: Engine, name: str, cases: list[SmokeCase]) -> float | None:
    """Largest difference in nats between this engine and the trainer over the last tokens of each case.

    None where there was nothing to compare, NaN where the engine computes none.
    """
    asked = [
        (case.token_ids[:at], case.token_ids[at], case.logprobs[at - 1])
        for case in cases
        for at in range(max(1, len(case.token_ids) - SMOKE_TOKENS), len(case.token_ids))
    ]
    tops = await asyncio.gather(*(engine.top_logprobs(name, before) for before, _, _ in asked))
    found = [_difference(top, token, wanted) for top, (_, token, wanted) in zip(tops, asked, strict=True)]
    differences = [difference for difference in found if difference is not None]
    return math.nan if any(map(math.isnan, differences)) else max(differences, default=None)


def _difference(top: dict[int, float], token: int, wanted: float) -> float | None:
    """None where both find the token less probable than the engine's top ones: how much less is not known.

    The engine adds the token it has drawn to its top ones, however improbable that is.
    """
    if token in top:
        return abs(top[token] - wanted)
    if any(map(math.isnan, top.values())):
        return math.nan
    excess = wanted - sorted(top.values(), reverse=True)[:TOP][-1]
    return excess if excess > 0 else None
