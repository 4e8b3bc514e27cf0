"""The controller's client of one engine, and the smoke that compares it with the trainer."""

import math
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from infra.contracts.manifests import SmokeCase
from serving.engine import SMOKE_TOKENS, TOP, Engine, Look, requests_of, smoke
from serving.errors import EngineRefused, EngineSilent, EngineUnreachable
from tests.support.control_engine import KEY, ControlEngine, running_control_engine

CASE = SmokeCase(token_ids=[5, 17, 33, 60], logprobs=[-0.2, -1.1, -0.4])


@pytest.fixture
async def engine() -> AsyncIterator[ControlEngine]:
    async with running_control_engine(knows=[CASE], adapters={"v1": "/somewhere"}) as running:
        yield running


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
def client(engine: ControlEngine, session: aiohttp.ClientSession) -> Engine:
    return Engine(session, engine.address, KEY)


async def test_its_own_word_on_what_is_loaded_names_the_base_too(client: Engine) -> None:
    assert await client.loaded() == {"base", "v1"}


async def test_it_says_since_when_it_runs(client: Engine, engine: ControlEngine) -> None:
    assert await client.look() == Look(frozenset({"base", "v1"}), 1.0)
    engine.restart()
    assert await client.look() == Look(frozenset({"base"}), 2.0)


async def test_one_that_does_not_say_since_when_it_runs_is_none_of_ours(client: Engine, engine: ControlEngine) -> None:
    engine.started = None
    with pytest.raises(EngineRefused, match="process_start_time_seconds"):
        await client.look()


async def test_requests_that_run_and_wait_are_counted_where_the_engine_answers(engine: ControlEngine) -> None:
    engine.busy = 3
    assert await requests_of([engine.address, "http://127.0.0.1:9"], KEY) == [4, None]


async def test_the_base_is_told_from_its_adapters_whatever_its_name(client: Engine, engine: ControlEngine) -> None:
    engine.base = "my-model"
    assert await client.base() == ("my-model", 512)


async def test_loading_and_unloading_change_what_it_answers_to(client: Engine, engine: ControlEngine) -> None:
    await client.load("v2", Path("/adapters/v2"))
    assert engine.adapters["v2"] == "/adapters/v2"
    await client.unload("v1")
    assert await client.loaded() == {"base", "v2"}


async def test_its_refusal_is_told_with_its_words(client: Engine) -> None:
    with pytest.raises(EngineRefused, match="404 .*gone cannot be found"):
        await client.unload("gone")


async def test_an_engine_that_is_not_well_is_unreachable(client: Engine, engine: ControlEngine) -> None:
    engine.healthy = False
    with pytest.raises(EngineUnreachable, match="503"):
        await client.loaded()


async def test_an_engine_that_is_not_there_is_unreachable(session: aiohttp.ClientSession) -> None:
    with pytest.raises(EngineUnreachable, match="/health: ClientConnectorError"):
        await Engine(session, "http://127.0.0.1:9", KEY).loaded()


async def test_an_engine_that_takes_too_long_is_told_from_one_that_is_gone(
    client: Engine, engine: ControlEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.engine.PROBE_S", 0.05)
    engine.delay_s = 1.0
    with pytest.raises(EngineSilent, match="/health: TimeoutError"):
        await client.loaded()


async def test_a_wrong_key_is_refused_not_unreachable(engine: ControlEngine, session: aiohttp.ClientSession) -> None:
    with pytest.raises(EngineRefused, match="401"):
        await Engine(session, engine.address, "wrong").loaded()


async def test_smoke_asks_at_temperature_one_with_nothing_cut_off_before_any_user(
    client: Engine, engine: ControlEngine
) -> None:
    await smoke(client, "v1", [CASE])
    asked = engine.requests[0]
    assert (asked["temperature"], asked["top_p"], asked["top_k"], asked["min_p"]) == (1.0, 1.0, -1, 0.0)
    assert (asked["repetition_penalty"], asked["max_tokens"]) == (1.0, 1)
    assert asked["priority"] < 0
    assert sorted(request["prompt"] for request in engine.requests) == [[5], [5, 17], [5, 17, 33]]


async def test_an_engine_that_agrees_with_the_trainer_differs_by_nothing(client: Engine) -> None:
    assert await smoke(client, "v1", [CASE]) == pytest.approx(0)


async def test_the_largest_difference_counts(client: Engine, engine: ControlEngine) -> None:
    engine.off = 0.25
    assert await smoke(client, "v1", [CASE]) == pytest.approx(0.25)


async def test_a_token_that_the_engine_does_not_think_of_differs_by_what_it_is_above_its_top_ones(
    client: Engine, engine: ControlEngine
) -> None:
    engine.elsewhere = [-1.0 - step / 10 for step in range(TOP)] + [-50.0]  # the last one was drawn
    other = SmokeCase(token_ids=[1, 2], logprobs=[-0.4])
    assert await smoke(client, "v1", [CASE, other]) == pytest.approx(2.5)


async def test_a_token_that_both_find_improbable_says_nothing(client: Engine, engine: ControlEngine) -> None:
    engine.elsewhere = [-1.0 - step / 10 for step in range(TOP)]
    improbable = SmokeCase(token_ids=[1, 2], logprobs=[-7.0])
    assert await smoke(client, "v1", [CASE, improbable]) == pytest.approx(0)
    assert await smoke(client, "v1", [improbable]) is None


async def test_an_engine_that_computes_no_numbers_never_agrees(client: Engine, engine: ControlEngine) -> None:
    engine.elsewhere = [None]
    difference = await smoke(client, "v1", [CASE, SmokeCase(token_ids=[1, 2], logprobs=[-0.4])])
    assert difference is not None
    assert math.isnan(difference)


async def test_nothing_to_compare_is_no_agreement(client: Engine) -> None:
    assert await smoke(client, "v1", []) is None
    assert await smoke(client, "v1", [SmokeCase(token_ids=[5], logprobs=[])]) is None


async def test_only_the_end_of_a_long_case_is_asked_for(client: Engine, engine: ControlEngine) -> None:
    long = SmokeCase(token_ids=list(range(100, 150)), logprobs=[-0.1] * 49)
    engine.knows = [long]
    assert await smoke(client, "v1", [long]) == pytest.approx(0)
    assert len(engine.requests) == SMOKE_TOKENS
    assert min(len(request["prompt"]) for request in engine.requests) == 50 - SMOKE_TOKENS


async def test_a_version_that_the_engine_does_not_have_can_not_be_compared(client: Engine) -> None:
    with pytest.raises(EngineRefused, match="no model v9"):
        await smoke(client, "v9", [CASE])
