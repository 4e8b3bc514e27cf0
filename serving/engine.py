"""One engine over HTTP, as the controller needs it: alive, what is loaded, load, unload, prompt log-probabilities."""

import json
import math
from pathlib import Path
from typing import Any

import aiohttp

from infra.contracts.manifests import SmokeCase
from serving.errors import EngineRefused, EngineUnreachable

PROBE_S = 5.0  # an engine that is merely busy answers within this
LOAD_S = 60.0
SMOKE_PRIORITY = -1  # before any user's request: a swap waits for it


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

    async def load(self, name: str, directory: Path) -> None:
        """The caller has validated it: the engine itself hardly checks."""
        body = {"lora_name": name, "lora_path": str(directory)}
        await self._call("POST", "/v1/load_lora_adapter", body, timeout_s=LOAD_S)

    async def unload(self, name: str) -> None:
        await self._call("POST", "/v1/unload_lora_adapter", {"lora_name": name}, timeout_s=LOAD_S)

    async def prompt_logprobs(self, name: str, token_ids: list[int]) -> list[float]:
        """Log-probabilities in nats, at temperature 1, of `token_ids[1:]` given what is before each."""
        body = {
            "model": name,
            "prompt": token_ids,
            "max_tokens": 1,
            "temperature": 1.0,
            "prompt_logprobs": 0,
            "priority": SMOKE_PRIORITY,
        }
        found = await self._call("POST", "/v1/completions", body, timeout_s=LOAD_S)
        return _of_tokens(token_ids, found["choices"][0]["prompt_logprobs"])

    async def _call(self, method: str, path: str, body: object = None, *, timeout_s: float) -> dict[str, Any]:
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
            raise EngineUnreachable(f"{path}: {type(error).__name__} {error}".strip()) from None


def _decoded(answer: aiohttp.ClientResponse, text: str, path: str) -> dict[str, Any]:
    if answer.status == 503:
        raise EngineUnreachable(f"{path}: the engine is not well (503)")
    if answer.status >= 400:
        raise EngineRefused(f"{path}: {answer.status} {text[:300]}")
    if not text or answer.content_type != "application/json":
        return {}
    return dict(json.loads(text))


def _of_tokens(token_ids: list[int], found: list[dict[str, Any] | None]) -> list[float]:
    """vLLM gives a mapping per position from token id to its log-probability; the first position has none."""
    positions = zip(token_ids[1:], found[1:], strict=True)
    return [_logprob((entry or {}).get(str(token))) for token, entry in positions]


def _logprob(entry: dict[str, Any] | None) -> float:
    value = (entry or {}).get("logprob")
    return math.nan if value is None else float(value)


async def smoke(engine: Engine, name: str, cases: list[SmokeCase]) -> float:
    """Largest difference in nats between this engine and the trainer over all cases; NaN where one is not finite."""
    differences = [0.0]
    for case in cases:
        found = await engine.prompt_logprobs(name, case.token_ids)
        differences += [abs(ours - theirs) for ours, theirs in zip(found, case.logprobs, strict=True)]
    return math.nan if any(math.isnan(d) for d in differences) else max(differences)
