"""Clients that chat and vote without end, with the stock SDK and over plain HTTP, and keep books of it."""

import asyncio
import itertools
import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aiohttp
import openai

from tests.chaos.books import Books, Cast, Chat, Value
from tests.support.ledger import RETRY_S, TURBULENCE, request, streamed, whole
from tests.support.product import Product

CLIENTS = 4
FILLERS = 8
PAUSE_S = 0.15  # between an answer's votes and the next question: faults and recoveries need the processor too
UNANSWERED_S = 1.0  # the pause where none came
PATIENCE_S = 20.0  # a client's own time-out
LAST_PATIENCE_S = 120.0  # for what was begun when the end came
CHANGES_MIND = 0.4
REMEMBERS = 0.2
LONG_COMMENT = "x" * 9_000  # fills a spool quickly
VALUES: tuple[Value, ...] = (True, False, None)
TAKEN, FULL = 202, 503
Send = Callable[[dict[str, Any], str], Awaitable[dict[str, Any] | None]]


class Refused(AssertionError):
    """A vote was answered with a status that no fault excuses."""


@dataclass(frozen=True, slots=True)
class Wire:
    """One client's connections: the SDK's, and plain ones to the same gateway."""

    sdk: openai.AsyncOpenAI
    web: aiohttp.ClientSession
    address: str

    async def plain(self, user: str) -> str:
        """The id of an answer; raises aiohttp.ClientError where there is none."""
        async with self.web.post(f"{self.address}/v1/chat/completions", json=request(user)) as answer:
            answer.raise_for_status()
            return str((await answer.json())["id"])

    async def post(self, body: dict[str, Any], key: str) -> dict[str, Any] | None:
        """The receipt of a vote; None where it was answered 503."""
        headers = {"Idempotency-Key": key}
        async with self.web.post(f"{self.address}/v1/feedback", json=body, headers=headers) as answer:
            return _receipt(answer.status, await answer.json(content_type=None))

    async def post_by_sdk(self, body: dict[str, Any], key: str) -> dict[str, Any] | None:
        options: Any = {"headers": {"Idempotency-Key": key}}
        try:
            return _receipt(TAKEN, await self.sdk.post("/feedback", body=body, cast_to=object, options=options))
        except openai.APIStatusError as error:
            return _receipt(error.status_code, error.body)


def _receipt(status: int, body: object) -> dict[str, Any] | None:
    if status == TAKEN and isinstance(body, dict):
        return body
    if status < 500:
        raise Refused(f"a vote was answered {status}: {body}")
    return None


@dataclass
class Crowd:
    """`filling` makes others vote besides, with long comments, for as long as it is set."""

    product: Product
    books: Books
    seed: int
    stop: threading.Event = field(default_factory=threading.Event)
    filling: threading.Event = field(default_factory=threading.Event)

    async def run(self) -> None:
        """Until `stop`, or until a client has failed; then what was begun is brought to its end.

        Raises Refused, or TimeoutError where that cannot be.
        """
        tasks = {asyncio.create_task(self._client(number)) for number in range(CLIENTS)}
        tasks |= {asyncio.create_task(self._filler(number)) for number in range(FILLERS)}
        asked = asyncio.create_task(asyncio.to_thread(self.stop.wait))
        await asyncio.wait({asked, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        self.stop.set()
        done, late = await asyncio.wait(tasks, timeout=LAST_PATIENCE_S)
        for task in late:
            task.cancel()
        for task in done:
            task.result()
        if late:
            raise TimeoutError(f"{len(late)} clients could not bring to an end what they had begun")

    async def _client(self, number: int) -> None:
        """Asks in three ways, rates in two, changes its mind, and remembers older answers: always where none came."""
        user, rng, mine = f"user-{number}", random.Random(f"{self.seed} {number}"), list[str]()
        async with AsyncExitStack() as stack:
            wire = await self._connect(stack)
            asks = itertools.cycle(
                [lambda: streamed(wire.sdk, user), lambda: whole(wire.sdk, user), lambda: wire.plain(user)]
            )
            sends = itertools.cycle([wire.post, wire.post_by_sdk])
            while not self.stop.is_set():
                if response_id := await self._ask(next(asks)):
                    mine.append(response_id)
                about = response_id if response_id and rng.random() > REMEMBERS else rng.choice(mine or [""])
                if about:
                    await self._judge(user, about, rng, next(sends))
                await asyncio.sleep(PAUSE_S if response_id else UNANSWERED_S)

    async def _ask(self, ask: Callable[[], Awaitable[str]]) -> str:
        began = time.monotonic()
        try:
            response_id, problem = await ask(), ""
        except TURBULENCE as error:
            response_id, problem = "", f"{type(error).__name__}: {error}"
        self.books.chats.append(Chat(began, time.monotonic(), response_id, problem))
        return response_id

    async def _judge(self, user: str, response_id: str, rng: random.Random, send: Send) -> None:
        await self._cast(user, response_id, rng.choice(VALUES), send)
        while rng.random() < CHANGES_MIND:
            await self._cast(user, response_id, rng.choice(VALUES), send)

    async def _cast(self, user: str, response_id: str, value: Value, send: Send, comment: str = "") -> None:
        """The same key is sent until it is acknowledged, as a careful client does."""
        began, key = time.monotonic(), uuid4().hex
        body: dict[str, Any] = {"response_id": response_id, "rater": user, "name": "thumbs", "value": value}
        body |= {"comment": comment} if comment else {}
        while True:
            try:
                if receipt := await send(body, key):
                    break
                self.books.refused.append(time.monotonic())
            except TURBULENCE:
                pass
            await asyncio.sleep(RETRY_S)
        self.books.casts.append(Cast(user, response_id, value, receipt["feedback_id"], receipt["stored"], began))

    async def _filler(self, number: int) -> None:
        async with AsyncExitStack() as stack:
            wire = await self._connect(stack)
            while not self.stop.is_set():
                if self.filling.is_set():
                    await self._cast(f"filler-{number}", self.books.answered[-1], True, wire.post, LONG_COMMENT)
                else:
                    await asyncio.sleep(RETRY_S)

    async def _connect(self, stack: AsyncExitStack) -> Wire:
        headers = {"Authorization": f"Bearer {self.product.keys['client']}"}
        patience = aiohttp.ClientTimeout(total=PATIENCE_S)
        sdk = await stack.enter_async_context(self.product.client(max_retries=0, timeout=PATIENCE_S))
        web = await stack.enter_async_context(aiohttp.ClientSession(headers=headers, timeout=patience))
        return Wire(sdk, web, self.product.address)


@contextmanager
def crowd(product: Product, books: Books, seed: int) -> Iterator[Crowd]:
    """In a thread of its own while the block lasts; what its clients had begun by then is over when it ends."""
    made = Crowd(product, books, seed)
    with ThreadPoolExecutor(1, thread_name_prefix="crowd") as pool:
        running = pool.submit(lambda: asyncio.run(made.run()))
        try:
            yield made
        finally:
            made.filling.clear()
            made.stop.set()
            running.result()
