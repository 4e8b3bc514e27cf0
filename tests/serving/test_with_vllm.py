"""The controller, the real gateway and the real vLLM: what is refused, what comes back, how long a swap takes."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import aiohttp
import httpx
import openai
import pytest
import structlog

from infra.contracts.routing import BASE_VERSION
from infra.ports import Ports
from infra.registry import adapters, rollouts
from infra.registry.adapters import AdapterState
from serving.engine import Engine, smoke
from serving.errors import EngineRefused
from serving.fingerprint import take
from tests.support.adapters import BAD, make_adapter, make_bad_adapter, publish, tamper
from tests.support.controllers import (
    bring_to_gates,
    champion,
    copy_in_store,
    cycle_state,
    eventually,
    make_evidence,
    promote,
    replica,
    roll_back,
    rollout_state,
)
from tests.support.product import Product, running_product
from tests.support.tiny_model import make_tiny_model
from tests.support.versions import own_answer, publish_version
from trainer.data import Prompt, encode_prompt
from trainer.divergence import sequence_logprobs
from trainer.model import Base, load_adapter, load_base, remove_adapter
from trainer.stages.evaluating import smoke_cases

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

log = structlog.get_logger()

PROMPT = [{"role": "user", "content": "What does math.cos do?"}]
TOKENS = 8
USERS = 6
VERSIONS = 2
HEAL_S = 240


@dataclass(frozen=True, slots=True)
class Answer:
    """`started` by the client's clock, in seconds since the epoch."""

    started: float
    version: str
    token_ids: tuple[int, ...]


@dataclass
class Traffic:
    """Users who never pause."""

    answers: list[Answer] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    stopped: bool = False

    async def keep_asking(self, client: openai.AsyncOpenAI) -> None:
        while not self.stopped:
            try:
                self.answers.append(await ask(client))
            except openai.OpenAIError as error:
                self.errors.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(0.1)

    def starts(self, version: str, since: float) -> list[float]:
        return sorted(a.started for a in self.answers if a.version == version and a.started > since)


@dataclass(frozen=True, slots=True)
class World:
    """A running product with a few versions, each with the answer that the trainer's own copy of it gives."""

    product: Product
    ports: Ports
    base: Base
    directory: Path
    own: dict[str, tuple[int, ...]]

    @property
    def versions(self) -> list[str]:
        return list(self.own)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("world")
    model = make_tiny_model(directory / "model")
    with running_product(directory / "home", model) as product:
        ports, base, own = product.ports(), load_base(model), {}
        for seed in range(VERSIONS):
            made = directory / f"made-{seed}"
            version = publish_version(ports, base, made, seed=seed)
            own[version] = own_answer(base, made, PROMPT, tokens=TOKENS)
        yield World(product, ports, base, directory, own)
        ports.close()


async def ask(client: openai.AsyncOpenAI) -> Answer:
    started = time.time()
    found = await client.chat.completions.create(
        model="assistant",
        messages=PROMPT,  # type: ignore[arg-type]  # the SDK names a class for each role
        max_tokens=TOKENS,
        temperature=0,
        extra_body={"return_token_ids": True, "ignore_eos": True},
    )
    return Answer(started, found.model, tuple((found.choices[0].model_extra or {})["token_ids"]))


@asynccontextmanager
async def traffic(world: World) -> AsyncIterator[Traffic]:
    """Flows inside the block."""
    flowing = Traffic()
    async with world.product.client(max_retries=0) as client, asyncio.TaskGroup() as users:
        for _ in range(USERS):
            users.create_task(flowing.keep_asking(client))
        try:
            yield flowing
        finally:
            flowing.stopped = True


async def becomes_champion(world: World, version: str) -> None:
    if champion(world.ports) != version:
        rollout_id = promote(world.ports, version)
        await eventually(lambda: rollout_state(world.ports, rollout_id) == "done", f"{version} serves", timeout_s=60)


async def test_what_the_trainer_records_is_what_the_engine_computes_and_only_for_that_version(world: World) -> None:
    first = world.versions[0]
    await becomes_champion(world, first)
    load_adapter(world.base, "candidate", world.directory / "made-0")
    prompt = encode_prompt(world.base.tokenizer, Prompt(PROMPT))
    cases = smoke_cases(world.base, [[*prompt, *world.own[first]]])
    remove_adapter(world.base, "candidate")
    bare = [case.model_copy(update={"logprobs": sequence_logprobs(world.base, case.token_ids, None)}) for case in cases]
    async with aiohttp.ClientSession() as session:
        engine = Engine(session, replica(world.ports).address, world.ports.engine_key)
        agrees, differs = await smoke(engine, first, cases), await smoke(engine, first, bare)
    assert agrees is not None
    assert agrees < 1e-3
    assert differs is not None
    assert differs > 0.1


async def test_the_base_answers_as_itself_beside_adapters_once_every_slot_was_taken(world: World) -> None:
    first, made = world.versions[0], world.directory / "made-1"
    await becomes_champion(world, first)
    async with aiohttp.ClientSession() as session:
        engine = Engine(session, replica(world.ports).address, world.ports.engine_key)
        for number in range(world.ports.settings.serving.max_loras + 1):
            await take_slot(engine, f"slot-{number}", made)
        cases = [
            case.model_copy(update={"logprobs": sequence_logprobs(world.base, case.token_ids, None)})
            for case in await take(engine, BASE_VERSION)
        ]
        beside = [engine.top_logprobs(first, case.token_ids) for case in cases for _ in range(10)]
        difference, *_ = await asyncio.gather(smoke(engine, BASE_VERSION, cases), *beside)
    assert difference is not None
    assert difference < 1e-3


async def take_slot(engine: Engine, name: str, directory: Path) -> None:
    """The controller unloads what it does not know, maybe before it was asked for anything; the slot stays taken."""
    while True:
        await engine.load(name, directory)
        with suppress(EngineRefused):
            await engine.top_logprobs(name, [5, 17, 33])
            return


async def test_bad_adapters_are_refused_each_with_its_reason_while_answers_go_on(world: World) -> None:
    good = world.versions[0]
    await becomes_champion(world, good)
    refusals = {kind: reason for kind, (_, reason) in BAD.items()} | {"changed in the store": "SHA-256"}
    async with traffic(world) as flowing:
        for kind, reason in refusals.items():
            version = await refused(world, kind, good)
            await asyncio.to_thread(assert_api_tells, world, version, reason)
        loaded = await names_on_the_engine(world)
    assert flowing.errors == []
    assert {answer.version for answer in flowing.answers} == {good}
    assert {answer.token_ids for answer in flowing.answers} == {world.own[good]}
    assert len(flowing.answers) > len(refusals)
    assert not any(name.startswith("assistant-7-") for name in loaded), "none of them ever got near the engine"
    assert_commands_tell(world, version, reason)


async def refused(world: World, kind: str, good: str) -> str:
    """Publishes it as a trainer would, at its gates; returns the version once its cycle has ended."""
    directory = world.directory / kind.replace(" ", "-")
    if kind in BAD:
        made = make_bad_adapter(kind, directory, world.base.directory)
    else:
        made = make_adapter(directory, world.base.directory, seed=7)
    evidence = make_evidence(made.version, champion=good)
    cycle_id = bring_to_gates(world.ports, made, evidence, spoil=None if kind in BAD else tamper)
    await eventually(lambda: cycle_state(world.ports, cycle_id) == "blocked", f"{kind} was refused", timeout_s=60)
    return made.version


def assert_api_tells(world: World, version: str, reason: str) -> None:
    """The administration's HTTP API says why."""
    headers = {"Authorization": f"Bearer {world.product.keys['admin']}"}
    told = httpx.get(f"{world.product.address}/admin/v1/adapters/{version}", headers=headers, timeout=30).json()
    assert told["state"] == "refused"
    assert reason in told["reason"]
    assert told["gates"]["gates"][0]["verdict"] == "fail"


async def names_on_the_engine(world: World) -> frozenset[str]:
    async with aiohttp.ClientSession() as session:
        return await Engine(session, replica(world.ports).address, world.ports.engine_key).loaded()


def assert_commands_tell(world: World, version: str, reason: str) -> None:
    told = json.loads(world.product.command("adapter", "show", version, "--json"))
    assert told["state"] == "refused"
    assert reason in told["reason"]
    done = world.product.run("promote", version, "--reason", "I like it")
    assert done.code == 1
    assert "is refused and cannot be promoted" in done.said


async def test_an_accepted_version_that_went_bad_fails_its_rollout_and_nobody_notices(world: World) -> None:
    good = world.versions[0]
    await becomes_champion(world, good)
    bad = publish(world.ports, make_adapter(world.directory / "went-bad", world.base.directory, seed=8))
    tamper(copy_in_store(world.ports, bad))
    with world.ports.database.transaction() as session:
        adapters.move(session, bad, AdapterState.ACCEPTED)
    async with traffic(world) as flowing:
        rollout_id = promote(world.ports, bad)
        await eventually(lambda: rollout_state(world.ports, rollout_id) == "failed", "the rollout failed", timeout_s=60)
    with world.ports.database.reading() as session:
        assert "SHA-256" in (rollouts.get(session, rollout_id).error or "")
        assert adapters.get(session, bad).state == AdapterState.REFUSED
    assert (flowing.errors, {answer.version for answer in flowing.answers}) == ([], {good})


async def test_swaps_and_rollbacks_under_traffic_fail_nobody(world: World) -> None:
    """How long each took is in the log; `make bench-swap` and `make bench-rollback` measure it."""
    old = world.versions[0]
    await becomes_champion(world, old)
    new = publish_version(world.ports, world.base, world.directory / "newest", seed=9)
    await eventually(lambda: new in replica(world.ports).versions, "the candidate was prepared", timeout_s=60)
    async with traffic(world) as flowing:
        timed = [await swapped_and_back(world, flowing, new, old) for _ in range(3)]
    assert flowing.errors == []
    for name, found in zip(("swap_ms", "rollback_ms"), zip(*timed, strict=True), strict=True):
        log.info("swaps_timed", name=name, found=[round(ms) for ms in found])


async def swapped_and_back(world: World, flowing: Traffic, new: str, old: str) -> tuple[float, float]:
    """Milliseconds from accepted to the first request that began on the new version, and to the last one on it."""
    forward = promote(world.ports, new, force=True)
    await eventually(lambda: rollout_state(world.ports, forward) == "done", "the promotion ended", timeout_s=60)
    began = accepted_at(world, forward)
    await eventually(lambda: flowing.starts(new, began), "the new version answered")
    back = roll_back(world.ports, old)
    await eventually(lambda: rollout_state(world.ports, back) == "done", "the rollback ended", timeout_s=60)
    starts = flowing.starts(new, began)
    return (starts[0] - began) * 1000, max(0.0, starts[-1] - accepted_at(world, back)) * 1000


def accepted_at(world: World, rollout_id: str) -> float:
    with world.ports.database.reading() as session:
        requested: datetime = rollouts.get(session, rollout_id).requested_at
    return requested.timestamp()


async def test_an_engine_that_was_killed_answers_with_its_adapter_or_not_at_all(world: World) -> None:
    """The base answers before the adapter is back in the engine; no user may get that."""
    good = world.versions[1]
    await becomes_champion(world, good)
    address = replica(world.ports).address
    async with traffic(world) as flowing:
        world.product.kill("replica-0")
        await eventually(lambda: replica(world.ports).address != address, "another engine came", timeout_s=HEAL_S)
        await eventually(lambda: good in replica(world.ports).versions, "it has its adapter", timeout_s=HEAL_S)
        healed = time.time()
        await eventually(lambda: any(a.started > healed for a in flowing.answers), "it answers", timeout_s=60)
    assert {answer.version for answer in flowing.answers} == {good}
    assert {answer.token_ids for answer in flowing.answers} == {world.own[good]}
    assert good in await names_on_the_engine(world)
