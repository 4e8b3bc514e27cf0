"""Two hundred streams at once across twenty swaps: none fails, none mixes versions."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import openai
import pytest

from infra.ports import Ports
from infra.registry import fleet, rollouts, wishes
from infra.registry.rollouts import FINAL_STATES, RolloutState
from infra.registry.wishes import Wish
from tests.support.product import Product, running_product
from tests.support.tiny_model import make_tiny_model
from tests.support.versions import own_answer, publish_version
from trainer.model import load_base

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.timeout(600)]

SWAPS = 20
STREAMS = 200
PROMPT = [{"role": "user", "content": "Tell me a story about math.cos."}]
ANSWER_TOKENS = 10
LOOK_S = 0.05
SWAP_S = 60  # each waits for the slowest of two hundred answers
ANSWER_S = 120


@dataclass(frozen=True, slots=True)
class Answer:
    """What one stream brought. `models` has one entry unless versions were mixed."""

    models: frozenset[str]
    token_ids: tuple[int, ...]


@dataclass
class Crowd:
    """Everybody who streams, until `done`; `errors` say what a client saw in place of an answer."""

    client: openai.AsyncOpenAI
    answers: list[Answer] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    done: asyncio.Event = field(default_factory=asyncio.Event)

    async def keep_streaming(self) -> None:
        while not self.done.is_set():
            try:
                self.answers.append(await stream(self.client))
            except (openai.OpenAIError, TimeoutError) as error:
                self.errors.append(f"{type(error).__name__}: {error.__cause__ or error}")
                await asyncio.sleep(LOOK_S)


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    with running_product(tmp_path / "home", make_tiny_model(tmp_path / "model")) as running:
        yield running


async def test_no_stream_fails_or_mixes_versions_while_adapters_are_swapped(product: Product, tmp_path: Path) -> None:
    own = publish_all(product, tmp_path)
    async with product.client(max_retries=0, timeout=ANSWER_S) as client, streaming(Crowd(client)) as crowd:
        for version in [version for version in own if version != "base"]:
            await promoted(product, version)
    assert crowd.errors == []
    assert [answer for answer in crowd.answers if len(answer.models) != 1] == []
    served = {model for answer in crowd.answers for model in answer.models}
    assert len(served) > SWAPS // 2, "the swaps happened under the streams"
    assert len(crowd.answers) > SWAPS * STREAMS / 2
    assert len(set(own.values())) == len(own), "the versions can be told apart by what they say"
    assert [answer for answer in crowd.answers if answer.token_ids != own[next(iter(answer.models))]] == []


def publish_all(product: Product, directory: Path) -> dict[str, tuple[int, ...]]:
    """Each version, the base first, with the answer that the trainer's own copy of it gives."""
    ports, base = product.ports(), load_base(directory / "model")
    own = {"base": own_answer(base, None, PROMPT, tokens=ANSWER_TOKENS)}
    for number in range(SWAPS):
        made = directory / f"made-{number}"
        version = publish_version(ports, base, made, seed=number)
        own[version] = own_answer(base, made, PROMPT, tokens=ANSWER_TOKENS)
    ports.close()
    return own


@asynccontextmanager
async def streaming(crowd: Crowd) -> AsyncIterator[Crowd]:
    """The whole crowd streams inside the block; leaving it waits for the last answers."""
    async with asyncio.TaskGroup() as everybody:
        for _ in range(STREAMS):
            everybody.create_task(crowd.keep_streaming())
        try:
            yield crowd
        finally:
            crowd.done.set()


async def promoted(product: Product, version: str) -> None:
    """Asks for the promotion and waits until the table is flipped and the old version drained."""
    ports = product.ports()
    rollout_id = await asyncio.to_thread(request, ports, version)
    async with asyncio.timeout(SWAP_S):
        while (ended := await asyncio.to_thread(outcome, ports, rollout_id)) is None:
            await asyncio.sleep(LOOK_S)
    assert ended == (RolloutState.DONE, None), version
    ports.close()


def request(ports: Ports, version: str) -> str:
    with ports.database.transaction() as session:
        table = fleet.routing_table(session)
        assert table
        champion = table.aliases["assistant"].champion
        return wishes.promote(session, Wish(version, champion, "test", "swap")).rollout_id


def outcome(ports: Ports, rollout_id: str) -> tuple[str, str | None] | None:
    """State and error of a rollout that has ended."""
    with ports.database.reading() as session:
        row = rollouts.get(session, rollout_id)
        return (row.state, row.error) if row.state in FINAL_STATES else None


async def stream(client: openai.AsyncOpenAI) -> Answer:
    models: set[str] = set()
    token_ids: list[int] = []
    chunks = await client.chat.completions.create(
        model="assistant",
        messages=PROMPT,  # type: ignore[arg-type]  # the SDK names a class for each role
        stream=True,
        max_tokens=ANSWER_TOKENS,
        temperature=0,
        extra_body={"return_token_ids": True, "ignore_eos": True},
    )
    async for chunk in chunks:
        models.add(chunk.model)
        for choice in chunk.choices:
            token_ids += (choice.model_extra or {}).get("token_ids") or []
    return Answer(frozenset(models), tuple(token_ids))
