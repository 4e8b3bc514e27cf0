"""Two hundred streams at once across twenty swaps: none fails, none mixes versions."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest

from infra.ports import Ports
from infra.registry import fleet, rollouts
from infra.registry.rollouts import RolloutState
from tests.support.ledger import until
from tests.support.product import Product, running_product
from tests.support.tiny_model import make_tiny_model
from tests.support.versions import publish_version
from trainer.model import load_base

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SWAPS = 20
STREAMS = 200
PROMPT = [{"role": "user", "content": "Tell me a story about math.cos."}]
ANSWER_TOKENS = 12


@dataclass(frozen=True, slots=True)
class Answer:
    """What one stream brought. `models` has one entry unless versions were mixed."""

    models: frozenset[str]
    token_ids: tuple[int, ...]


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    with running_product(tmp_path / "home", make_tiny_model(tmp_path / "model")) as running:
        yield running


async def test_no_stream_fails_or_mixes_versions_while_adapters_are_swapped(product: Product, tmp_path: Path) -> None:
    versions = publish_all(product, tmp_path)
    answers: list[Answer] = []
    own: dict[str, tuple[int, ...]] = {}
    done = asyncio.Event()
    async with product.client(max_retries=0, timeout=300) as client, product.client("admin") as admin:
        load = [asyncio.create_task(keep_streaming(client, answers, done)) for _ in range(STREAMS)]
        for version in versions:
            await promoted(product, version)
            own[version] = (await stream(admin, version)).token_ids
        done.set()
        await asyncio.gather(*load)
    assert [answer for answer in answers if len(answer.models) != 1] == []
    served = {model for answer in answers for model in answer.models}
    assert len(served & set(versions)) >= SWAPS // 2
    assert len(set(own.values())) == SWAPS, "the versions can be told apart by what they say"
    strangers = [a for a in answers if (v := next(iter(a.models))) in own and a.token_ids != own[v]]
    assert strangers == []


def publish_all(product: Product, directory: Path) -> list[str]:
    ports, base = product.ports(), load_base(directory / "model")
    versions = [publish_version(ports, base, directory / f"made-{n}", seed=n) for n in range(SWAPS)]
    ports.close()
    return versions


async def promoted(product: Product, version: str) -> None:
    """Asks for the promotion and waits until the table is flipped and the old version drained."""
    ports = product.ports()
    rollout_id = await asyncio.to_thread(request, ports, version)

    async def finished() -> bool:
        with ports.database.reading() as session:
            row = rollouts.get(session, rollout_id)
            assert row.state not in (RolloutState.FAILED, RolloutState.ABORTED), row.error
            return row.state == RolloutState.DONE

    await until(finished, timeout_s=120, what=f"{version} became champion")
    ports.close()


def request(ports: Ports, version: str) -> str:
    with ports.database.transaction() as session:
        table = fleet.routing_table(session)
        assert table
        champion = table.aliases["assistant"].champion
        row = rollouts.request_promotion(session, version=version, actor="test", reason="swap", champion=champion)
        return row.rollout_id


async def keep_streaming(client: openai.AsyncOpenAI, answers: list[Answer], done: asyncio.Event) -> None:
    while not done.is_set():
        answers.append(await stream(client, "assistant"))


async def stream(client: openai.AsyncOpenAI, model: str) -> Answer:
    models: set[str] = set()
    token_ids: list[int] = []
    request = {
        "max_tokens": ANSWER_TOKENS,
        "temperature": 0,
        "extra_body": {"return_token_ids": True, "ignore_eos": True},
    }
    async for chunk in await client.chat.completions.create(model=model, messages=PROMPT, stream=True, **request):  # type: ignore[call-overload]
        models.add(chunk.model)
        for choice in chunk.choices:
            token_ids += (choice.model_extra or {}).get("token_ids") or []
    return Answer(frozenset(models), tuple(token_ids))
