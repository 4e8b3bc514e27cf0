"""Users of the running product who stream answers by HTTP and vote on what they read: who answered them, and when."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import aiohttp

from infra.clock import now
from tests.bench.abort_raters import Person, Question, liking, prefers, think_of
from tests.goldbed.gated import LONGEST
from tests.support.event_streams import NoAnswer, read_stream
from tests.support.live_rollouts import going_on

CLIENTS = 8  # who ask at the same time
VOTING = 0.7  # of the answers get a vote
TWO = 0.3  # of the requests are for two answers
ANSWER_S = 60
LOOK_S = 0.02
MOST_ERRORS = 100  # then somebody stops: nothing answers any more


@dataclass(frozen=True, slots=True)
class Reply:
    """One request's answers: by index, the version that gave each, and its text."""

    response_id: str
    versions: tuple[str, ...]
    texts: tuple[str, ...]


@dataclass
class Crowd:
    """`asked` has, of each answered request, when it began and who answered; `latest` when each client began last."""

    people: Sequence[Person]
    http: aiohttp.ClientSession
    asked: list[tuple[datetime, tuple[str, ...]]] = field(default_factory=list)
    latest: dict[int, datetime] = field(default_factory=dict)
    votes: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    async def keep_on(self, number: int) -> None:
        rng = random.Random(number)
        while True:
            person, began = rng.choice(self.people), now()
            self.latest[number] = began
            question, count = think_of(person, rng), 2 if rng.random() < TWO else 1
            try:
                reply = read(await self._stream(person, question, count))
                self.asked.append((began, reply.versions))
                if rng.random() < VOTING:
                    await self._vote(rng, person, question, reply)
            except (NoAnswer, aiohttp.ClientError, TimeoutError) as error:
                self.errors.append(f"{type(error).__name__}: {error}")
                if len(self.errors) > MOST_ERRORS:
                    raise

    async def moved_on(self) -> None:
        """Whatever was asked before this is answered."""
        since = now()
        while any(began <= since for began in self.latest.values()):
            await asyncio.sleep(LOOK_S)

    def answers_of(self, version: str, since: datetime) -> list[datetime]:
        """When those requests began that it answered, alone or as one of two."""
        return [began for began, versions in self.asked if began >= since and version in versions]

    async def _stream(self, person: Person, question: Question, count: int) -> list[dict[str, Any]]:
        body = {
            "model": "assistant", "messages": [{"role": "user", "content": question.text}], "stream": True, "n": count,
            "max_tokens": LONGEST, "temperature": 1.0, "user": person.name, "metadata": {"segment": person.segment},
        }  # fmt: skip
        async with self.http.post("/v1/chat/completions", json=body) as reply:
            return await read_stream(reply)

    async def _vote(self, rng: random.Random, person: Person, question: Question, reply: Reply) -> None:
        if len(reply.texts) == 2:
            first = rng.random() < prefers(person, question, *reply.texts)
            items = [{"response_id": reply.response_id, "index": index} for index in range(2)]
            vote = {"a": items[0], "b": items[1], "rater": person.name, "choice": "a" if first else "b"}
            return await self._post("/v1/comparisons", vote)
        up = rng.random() < liking(person, question, reply.texts[0])
        vote = {"response_id": reply.response_id, "rater": person.name, "name": "thumbs", "value": up}
        return await self._post("/v1/feedback", vote)

    async def _post(self, path: str, vote: Mapping[str, Any]) -> None:
        async with self.http.post(path, json=vote) as reply:
            if reply.status != 202:
                raise NoAnswer(f"{path}: {reply.status} {(await reply.text())[:200]}")
        self.votes[path] += 1


def read(events: Iterable[Mapping[str, Any]]) -> Reply:
    """Of a stream with one or more choices. Raises NoAnswer."""
    response_id, versions, texts = "", dict[int, str](), dict[int, str]()
    for event in events:
        if "error" in event:
            raise NoAnswer(f"{event['error']}")
        response_id = event["id"]
        for choice in event["choices"]:
            versions[choice["index"]] = choice.get("version", event["model"])
            said = choice["delta"].get("content") or ""
            texts[choice["index"]] = texts.get(choice["index"], "") + said
    return Reply(response_id, *(tuple(part[index] for index in sorted(part)) for part in (versions, texts)))


def seconds(span: timedelta) -> float:
    return round(span.total_seconds(), 2)


@asynccontextmanager
async def chatting(address: str, key: str, people: Sequence[Person]) -> AsyncIterator[Crowd]:
    timeout, headers = aiohttp.ClientTimeout(total=ANSWER_S), {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(address, headers=headers, timeout=timeout) as http:
        crowd = Crowd(people, http)
        async with going_on(crowd.keep_on(number) for number in range(CLIENTS)):
            yield crowd
