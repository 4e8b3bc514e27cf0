"""The product as a client sees it: the stock OpenAI SDK, with every request counted and every answer checked."""

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from openai import AsyncOpenAI, OpenAIError

ALIAS = "assistant"


@dataclass(slots=True)
class Tally:
    """What went over the wire. `starts` holds (wall-clock start, version) of each answer that routing chose."""

    requests: int = 0
    failures: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    starts: list[tuple[float, str]] = field(default_factory=list)
    acknowledged: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answered request: the handle that votes point at, who answered, and what."""

    response_id: str
    version: str
    answers: list[str]


@dataclass(frozen=True, slots=True)
class Ask:
    """One question and how it is to be answered. `consent` is whether answer and votes may be trained on."""

    question: str
    user: str
    model: str = ALIAS
    n: int = 1
    temperature: float = 1.0
    max_tokens: int = 64
    seed: int | None = None
    consent: bool = False

    def body(self) -> dict[str, Any]:
        """Sampling is spelled out: a model's generation_config.json applies silently to what is left out."""
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": self.question}],
            "n": self.n,
            "temperature": self.temperature,
            "top_p": 1.0,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "user": self.user,
            "metadata": {"consent_train": str(self.consent).lower(), "session_id": self.user},
        }


class Assistant:
    """Asks, streams and votes. Failures are counted and give None: the caller goes on."""

    def __init__(self, client: AsyncOpenAI, tally: Tally) -> None:
        self._client = client
        self.tally = tally

    async def ask(self, ask: Ask) -> Reply | None:
        started = self._begin()
        try:
            completion = await self._client.chat.completions.create(**ask.body())
        except OpenAIError as error:
            self.tally.failures.append(f"{type(error).__name__}: {error}")
            return None
        self._note(ask, started, completion.model)
        return Reply(completion.id, completion.model, [choice.message.content or "" for choice in completion.choices])

    async def stream(self, ask: Ask) -> Reply | None:
        """An answer in pieces; pieces of two versions, or of two ids, are a mixed answer."""
        started, text = self._begin(), ""
        speakers: set[tuple[str, str]] = set()
        try:
            async for chunk in await self._client.chat.completions.create(**ask.body(), stream=True):
                speakers.add((chunk.id, chunk.model))
                text += "".join(choice.delta.content or "" for choice in chunk.choices)
        except OpenAIError as error:
            self.tally.failures.append(f"{type(error).__name__}: {error}")
            return None
        return self._single(ask, speakers, text, started)

    async def vote(self, path: str, kind: str, body: dict[str, Any]) -> bool:
        """True once the vote is acknowledged (202), and only then counted."""
        try:
            response = await self._client.post(path, cast_to=httpx.Response, body=body)
        except OpenAIError as error:
            self.tally.refused.append(f"{kind}: {type(error).__name__}: {error}")
            return False
        if response.status_code != httpx.codes.ACCEPTED:
            self.tally.refused.append(f"{kind}: {response.status_code}")
            return False
        self.tally.acknowledged[kind] += 1
        return True

    def _begin(self) -> float:
        self.tally.requests += 1
        return time.time()

    def _note(self, ask: Ask, started: float, version: str) -> None:
        """A version that was asked for by name says nothing about when routing changed."""
        if ask.model == ALIAS:
            self.tally.starts.append((started, version))

    def _single(self, ask: Ask, speakers: set[tuple[str, str]], text: str, started: float) -> Reply | None:
        if len(speakers) != 1:
            problem = self.tally.mixed if speakers else self.tally.failures
            problem.append(f"one answer from {sorted(speakers)}")
            return None
        response_id, version = speakers.pop()
        self._note(ask, started, version)
        return Reply(response_id, version, [text])


@asynccontextmanager
async def connect(address: str, key: str, tally: Tally) -> AsyncIterator[Assistant]:
    """No retries: a retried failure would be a hidden one."""
    async with AsyncOpenAI(base_url=f"{address}/v1", api_key=key, max_retries=0, timeout=60) as client:
        yield Assistant(client, tally)
