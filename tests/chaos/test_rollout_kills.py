"""`kill -9` of controller, gateway and engine at each transition of a rollout: it goes on, and nobody is ever answered
by weights other than those the answer names."""

import asyncio
import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from infra.contracts.rollouts import Step, StepKind
from infra.ports import Ports
from infra.registry import adapters, fleet, rollouts, wishes
from infra.registry.rollouts import FINAL_STATES, RolloutState
from infra.registry.wishes import Wish
from tests.support.live_rollouts import going_on, stepped_product
from tests.support.product import Product
from tests.support.tiny_model import make_tiny_model
from tests.support.versions import own_answer, publish_version
from trainer.model import load_base

pytestmark = [pytest.mark.chaos, pytest.mark.engine, pytest.mark.timeout(1800)]

STEPS = (Step(kind=StepKind.SHADOW, share=0.5), Step(share=0.2, min_s=1), Step(share=0.5, min_s=1))
TRANSITIONS = ("requested", "loading", "running 0", "running 1", "running 2", "draining")
VICTIMS = ("controller", "gateway", "replica-0")
PLAN = list(itertools.product(VICTIMS, TRANSITIONS))
KILLS = int(os.environ.get("ROLLOUT_KILLS", "3"))  # spread over the plan: all 18 take some twelve minutes
PROMPT = [{"role": "user", "content": "Tell me a story about math.cos."}]
ANSWER_TOKENS = 8
RATERS = 8
ENDS_S = 240  # an engine takes most of a minute to come back
LOOK_S = 0.01


@dataclass
class Askers:
    """Answers as (version that it named, tokens); who gets none asks again, as a client would."""

    address: str
    key: str
    answers: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    async def ask(self, rater: int) -> None:
        body = {
            "model": "assistant", "messages": PROMPT, "max_tokens": ANSWER_TOKENS, "temperature": 0, "ignore_eos": True,
            "return_token_ids": True, "user": f"rater-{rater}",
        }  # fmt: skip
        headers = {"authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(base_url=self.address, headers=headers, timeout=30) as client:
            while True:
                try:
                    answer = await client.post("/v1/chat/completions", json=body)
                except httpx.TransportError:
                    await asyncio.sleep(0.2)  # the gateway is being started again
                    continue
                if answer.status_code == 200:
                    found = answer.json()
                    self.answers.append((found["model"], tuple(found["choices"][0]["token_ids"])))

    async def answered_by(self, version: str) -> None:
        async with asyncio.timeout(ENDS_S):
            while all(named != version for named, _ in self.answers):
                await asyncio.sleep(LOOK_S)


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    with stepped_product(tmp_path / "home", make_tiny_model(tmp_path / "model"), STEPS, look_s=0.2) as running:
        yield running


async def test_a_rollout_survives_the_death_of_each_process_at_each_transition(
    product: Product, tmp_path: Path
) -> None:
    chosen = [PLAN[round(place * len(PLAN) / KILLS)] for place in range(min(KILLS, len(PLAN)))]
    ports, own = product.ports(), publish_all(product, tmp_path, len(chosen))
    versions = [version for version in own if version != "base"]
    askers = Askers(product.address, product.keys["client"])
    async with going_on(askers.ask(rater) for rater in range(RATERS)):
        for (victim, transition), version in zip(chosen, versions, strict=True):
            ended = await rolled_out(product, ports, version, victim, transition)
            assert ended == (RolloutState.DONE, "champion"), (victim, transition, version)
            await askers.answered_by(version)
    ports.close()
    wrong = [(version, tokens) for version, tokens in askers.answers if tokens != own[version]]
    assert wrong == []


async def rolled_out(product: Product, ports: Ports, version: str, victim: str, transition: str) -> tuple[str, str]:
    """The rollout's last state and the adapter's, with one process killed on the way."""
    rollout_id = await asyncio.to_thread(_start, ports, version)
    async with asyncio.timeout(ENDS_S):
        if await _comes_to(ports, rollout_id, transition):
            await asyncio.to_thread(product.kill, victim)
        while not await asyncio.to_thread(_has_ended, ports, rollout_id):
            await asyncio.sleep(LOOK_S)
        while not await asyncio.to_thread(product.is_ready, victim):
            await asyncio.sleep(LOOK_S)
    with ports.database.reading() as session:
        return rollouts.get(session, rollout_id).state, adapters.get(session, version).state


async def _comes_to(ports: Ports, rollout_id: str, transition: str) -> bool:
    """False where it was too quick to be seen there: then it has ended."""
    while (place := await asyncio.to_thread(_place, ports, rollout_id)) != transition:
        if place in FINAL_STATES:
            return False
        await asyncio.sleep(LOOK_S)
    return True


def _place(ports: Ports, rollout_id: str) -> str:
    with ports.database.reading() as session:
        row = rollouts.get(session, rollout_id)
    return f"{row.state} {row.step}" if row.state == RolloutState.RUNNING else row.state


def _has_ended(ports: Ports, rollout_id: str) -> bool:
    return _place(ports, rollout_id) in FINAL_STATES


def _start(ports: Ports, version: str) -> str:
    with ports.database.transaction() as session:
        table = fleet.routing_table(session)
        assert table
        wish = Wish(version, table.aliases["assistant"].champion, "test", "chaos")
        return wishes.start(session, wish, STEPS).rollout_id


def publish_all(product: Product, directory: Path, count: int) -> Mapping[str, tuple[int, ...]]:
    """Each version, the base first, with the answer that the trainer's own copy of it gives."""
    ports, base = product.ports(), load_base(directory / "model")
    own = {"base": own_answer(base, None, PROMPT, tokens=ANSWER_TOKENS)}
    for number in range(count):
        made = directory / f"made-{number}"
        version = publish_version(ports, base, made, seed=number)
        own[version] = own_answer(base, made, PROMPT, tokens=ANSWER_TOKENS)
    ports.close()
    assert len(set(own.values())) == len(own), "the versions can be told apart by what they say"
    return own
