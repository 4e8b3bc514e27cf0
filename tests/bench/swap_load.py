"""Users who stream without a pause while versions are swapped, and what each of them saw, checked token by token."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import aiohttp

from tests.bench.swap_versions import FREQUENCY_PENALTY, QUESTIONS, TOKENS, Answers
from tests.support.event_streams import NoAnswer, read_stream

ANSWER_S = 120
SHOWN = 10  # of what went wrong


@dataclass
class Load:
    """`own` is what each version answers; `served` counts whole answers by version."""

    url: str
    key: str
    own: Mapping[str, Answers]
    served: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    mixed: int = 0
    faults: list[str] = field(default_factory=list)
    stopped: bool = False

    @property
    def requests(self) -> int:
        return self.served.total() + self.failed + self.mixed

    async def keep_streaming(self, session: aiohttp.ClientSession, questions: Iterable[str]) -> None:
        for question in questions:
            if self.stopped:
                return
            try:
                models, token_ids = read(await self._stream(session, question))
            except (NoAnswer, aiohttp.ClientError, TimeoutError) as error:
                self.failed += 1
                self._note(f"{type(error).__name__}: {error}")
                continue
            self.judge(question, models, token_ids)

    def judge(self, question: str, models: set[str], token_ids: tuple[int, ...]) -> None:
        """Whole and of one version: the one that it names."""
        version = next(iter(models)) if len(models) == 1 else ""
        if version in self.own and self.own[version][question] == token_ids:
            self.served[version] += 1
            return
        self.mixed += 1
        speakers = [name for name, answers in self.own.items() if answers[question] == token_ids]
        self._note(f"{sorted(models)} said {token_ids}, which is what {speakers or 'no version'} says")

    async def _stream(self, session: aiohttp.ClientSession, question: str) -> list[dict[str, Any]]:
        """Every event of one answer. Raises NoAnswer."""
        body = {
            "model": "assistant", "messages": [{"role": "user", "content": question}], "stream": True,
            "max_tokens": TOKENS, "temperature": 0, "return_token_ids": True, "ignore_eos": True,
            "frequency_penalty": FREQUENCY_PENALTY,
        }  # fmt: skip
        headers = {"Authorization": f"Bearer {self.key}"}
        async with session.post(f"{self.url}/v1/chat/completions", json=body, headers=headers) as reply:
            return await read_stream(reply)

    def _note(self, fault: str) -> None:
        if len(self.faults) < SHOWN:
            self.faults.append(fault)


def read(events: Iterable[Mapping[str, Any]]) -> tuple[set[str], tuple[int, ...]]:
    """The versions that one answer's events name, and its tokens. Raises NoAnswer."""
    models: set[str] = set()
    token_ids: list[int] = []
    for event in events:
        if "error" in event:
            raise NoAnswer(f"{event['error']}")
        models.add(event["model"])
        for choice in event["choices"]:
            token_ids += choice.get("token_ids") or []
    return models, tuple(token_ids)


@asynccontextmanager
async def streaming(load: Load, users: int) -> AsyncIterator[None]:
    """All of them stream inside the block; leaving it waits for their last answers."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_S)
    async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as everybody:
        for user in range(users):
            turned = QUESTIONS[user % len(QUESTIONS) :] + QUESTIONS[: user % len(QUESTIONS)]
            everybody.create_task(load.keep_streaming(session, cycle(turned)))
        try:
            yield
        finally:
            load.stopped = True
