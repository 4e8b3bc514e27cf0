"""A rollout by real votes: chat and thumbs over HTTP, counted by feedback, judged by the controller, routed by the
gateway. A version that people like less loses its traffic by itself; one that they like more gets everybody."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.contracts.rollouts import Step, StepKind
from infra.registry import rollouts
from tests.support.live_rollouts import failed, going_on, operator, stepped_product, told
from tests.support.product import Product
from tests.support.tiny_model import make_tiny_model
from tests.support.versions import publish_version
from trainer.model import load_base

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.timeout(1200)]

STEPS = (
    Step(kind=StepKind.SHADOW, share=0.5, min_answers=5),
    Step(share=0.3, min_votes=10, min_answers=10),
    Step(share=0.5, pairs=0.5, min_votes=40, margin=0.3),
)
LIKED = {"base": 0.6, "worse": 0.1, "better": 0.9}  # how often a thumb goes up
CLIENTS = 4
PEOPLE = 4000
PAIRS = 0.3  # of the requests ask for two answers
ENDS_S = 600
LOOK_S = 0.2


@dataclass
class Crowd:
    """People who ask once or a few times and then vote. `names` gives versions their likings."""

    http: httpx.AsyncClient
    names: dict[str, str] = field(default_factory=lambda: {"base": "base"})
    votes: int = 0
    errors: list[str] = field(default_factory=list)

    async def keep_on(self, number: int) -> None:
        rng = random.Random(number)
        while True:
            person = f"person-{rng.randrange(PEOPLE)}"
            wants_two = rng.random() < PAIRS
            answer = await self.http.post("/v1/chat/completions", json=_request(person, n=2 if wants_two else 1))
            if answer.status_code != 200:
                self.errors.append(answer.text)
                continue
            await self._vote(rng, person, answer.json())

    async def _vote(self, rng: random.Random, person: str, answer: dict[str, Any]) -> None:
        versions = [choice.get("version", answer["model"]) for choice in answer["choices"]]
        liked = [LIKED[self.names[version]] for version in versions]
        if len(liked) == 2:
            first = rng.random() < 0.5 + (liked[0] - liked[1]) / 2
            items = [{"response_id": answer["id"], "index": index} for index in range(2)]
            vote = {"a": items[0], "b": items[1], "rater": person, "choice": "a" if first else "b"}
            reply = await self.http.post("/v1/comparisons", json=vote)
        else:
            vote = {"response_id": answer["id"], "rater": person, "name": "thumbs", "value": rng.random() < liked[0]}
            reply = await self.http.post("/v1/feedback", json=vote)
        if reply.status_code != 202:
            self.errors.append(reply.text)
        self.votes += 1


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    with stepped_product(tmp_path / "home", make_tiny_model(tmp_path / "model"), STEPS, look_s=0.5) as running:
        yield running


async def test_live_votes_take_a_worse_version_back_and_let_a_better_one_through(
    product: Product, tmp_path: Path
) -> None:
    worse, better = publish_two(product, tmp_path)
    names = {"base": "base", worse: "worse", better: "better"}
    async with operator(product) as admin, voting(product, names) as crowd:
        taken_back = await rolled_out(product, admin, worse)
        assert taken_back["state"] == "aborted", taken_back
        assert {"vote_rate", "pairs", "thumbs_down"} & failed(taken_back)
        assert (await told(admin, f"/adapters/{worse}"))["state"] == "rolled_back"
        let_through = await rolled_out(product, admin, better)
        assert let_through["state"] == "done", let_through
    assert crowd.errors == []
    status = json.loads(product.command("rollout", "status", "--json"))
    assert [entry["version"] for entry in status["aliases"]["assistant"]["versions"]] == [better]
    listed = json.loads(product.command("rollout", "list", "--json"))
    assert [(row["version"], row["state"]) for row in listed] == [(better, "done"), (worse, "aborted")]


def publish_two(product: Product, directory: Path) -> tuple[str, str]:
    ports, base = product.ports(), load_base(directory / "model")
    first, second = (publish_version(ports, base, directory / f"made-{seed}", seed=seed) for seed in (1, 2))
    ports.close()
    return first, second


async def rolled_out(product: Product, admin: httpx.AsyncClient, version: str) -> dict[str, Any]:
    """The rollout, once it has ended."""
    words = ("rollout", "start", version, "--reason", "it passed its gates", "--json")
    started = json.loads(await asyncio.to_thread(product.command, *words))
    async with asyncio.timeout(ENDS_S):
        while (row := await told(admin, f"/rollouts/{started['rollout_id']}"))["state"] not in rollouts.FINAL_STATES:
            await asyncio.sleep(LOOK_S)
    return row


@asynccontextmanager
async def voting(product: Product, names: dict[str, str]) -> AsyncIterator[Crowd]:
    headers = {"authorization": f"Bearer {product.keys['client']}"}
    async with httpx.AsyncClient(base_url=product.address, headers=headers, timeout=60) as http:
        crowd = Crowd(http, names)
        async with going_on(crowd.keep_on(number) for number in range(CLIENTS)):
            yield crowd


def _request(person: str, *, n: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Tell me about math.cos."}]
    return {"model": "assistant", "messages": messages, "max_tokens": 4, "n": n, "user": person}
