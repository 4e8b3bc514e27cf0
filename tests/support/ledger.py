"""Clients that keep chatting and voting through whatever happens, and their own books of what was acknowledged."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import aiohttp
import openai
from sqlalchemy import select

from feedback.tables import InferenceRow, VoteEventRow, VoteRow, VoteStatus
from tests.support.product import Product

RETRY_S = 0.1
TURBULENCE = (openai.APIError, aiohttp.ClientError, TimeoutError)


@dataclass
class Ledger:
    """`delivered` are answers that arrived whole; `votes` maps an idempotency key to the feedback id acknowledged."""

    delivered: set[str] = field(default_factory=set)
    votes: dict[str, str] = field(default_factory=dict)
    failed: int = 0
    stop: asyncio.Event = field(default_factory=asyncio.Event)


async def keep_voting(product: Product, ledger: Ledger, user: str) -> None:
    """Chats, streamed and whole in turn, and rates each delivered answer until that is acknowledged."""
    headers = {"Authorization": f"Bearer {product.keys['client']}"}
    async with product.client(max_retries=0, timeout=20) as client, aiohttp.ClientSession(headers=headers) as web:
        turn = 0
        while not ledger.stop.is_set():
            turn += 1
            try:
                response_id = await (streamed if turn % 2 else whole)(client, user)
            except TURBULENCE:
                ledger.failed += 1
                await asyncio.sleep(RETRY_S)
                continue
            ledger.delivered.add(response_id)
            await _rate(web, product.address, ledger, response_id, user)


async def whole(client: openai.AsyncOpenAI, user: str) -> str:
    """The id of an answer."""
    answer = await client.chat.completions.create(**request(user))
    return answer.id


async def streamed(client: openai.AsyncOpenAI, user: str) -> str:
    """The id of an answer that came to its end; raises TimeoutError where it did not."""
    response_id, finished = "", False
    async for chunk in await client.chat.completions.create(**request(user), stream=True):
        response_id = chunk.id
        finished = finished or any(choice.finish_reason for choice in chunk.choices)
    if not finished:
        raise TimeoutError("the stream ended early")
    return response_id


def request(user: str) -> dict:  # type: ignore[type-arg]  # the SDK's own overloads take it apart
    """A short question."""
    messages = [{"role": "user", "content": f"What does math.cos do, {user}?"}]
    return {"model": "assistant", "messages": messages, "user": user, "max_tokens": 12,
            "metadata": {"consent_train": "true"}}  # fmt: skip


async def _rate(web: aiohttp.ClientSession, address: str, ledger: Ledger, response_id: str, user: str) -> None:
    """The same key is sent until it is acknowledged, as a careful client does."""
    key = uuid4().hex
    body = {"response_id": response_id, "rater": user, "name": "thumbs", "value": len(ledger.votes) % 3 > 0}
    while key not in ledger.votes:
        try:
            async with web.post(f"{address}/v1/feedback", json=body, headers={"Idempotency-Key": key}) as answer:
                if answer.status == 202:
                    ledger.votes[key] = (await answer.json())["feedback_id"]
                    return
        except TURBULENCE:
            pass
        await asyncio.sleep(RETRY_S)


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database holds: response ids of inference events, and the event ids of votes as clients know them.

    `unjoined` votes have not found their answers.
    """

    inferences: frozenset[str]
    votes: tuple[str, ...]
    unjoined: int

    def has(self, ledger: Ledger) -> bool:
        return ledger.delivered <= self.inferences and set(ledger.votes.values()) <= set(self.votes)


def stored(product: Product) -> Stored:
    ports = product.ports()
    try:
        with ports.database.reading() as session:
            inferences = frozenset(session.scalars(select(InferenceRow.response_id)))
            votes = tuple(str(UUID(event_id)) for event_id in session.scalars(select(VoteEventRow.event_id)))
            states = session.scalars(select(VoteRow.status)).all()
    finally:
        ports.close()
    return Stored(inferences, votes, sum(state != VoteStatus.JOINED for state in states))


async def until(condition: Callable[[], Awaitable[bool]], *, timeout_s: float, what: str) -> None:
    """Waits for the condition; fails naming what did not happen."""
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.2)
    assert await condition(), what
