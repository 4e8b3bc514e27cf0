"""Two answers side by side, one of each arm: real gateway, real SDK, engines that say which version they are."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.pairs import joint, together
from infra.contracts.events import InferenceStatus
from tests.gateway.test_streams import in_flight
from tests.support.scene import QUESTION, Scene, eventually, open_scene
from tests.support.scripted_engine import Failure

ROLLOUT = {"versions": {"v1": 0.9, "v2": 0.1}, "rollout_id": "r1", "rollout_step": 2}


@asynccontextmanager
async def pairing(home: Path, pairs: float = 1.0, **settings: Any) -> AsyncIterator[Scene]:
    async with open_scene(home, table={**ROLLOUT, "pairs": pairs}, **settings) as scene:
        yield scene


def said_by(version: str) -> str:
    """What the engine says of one choice: it was asked for one alone."""
    return "".join(f"{version}/0.{at} " for at in range(4))


async def streamed(scene: Scene, **fields: Any) -> list[Any]:
    stream = await scene.sdk.chat.completions.create(
        model="assistant", messages=QUESTION, n=2, stream=True, **fields  # type: ignore[arg-type]  # plain dicts
    )  # fmt: skip
    return [chunk async for chunk in stream]


async def test_a_whole_pair_has_a_choice_of_each_arm_that_says_its_version(tmp_path: Path) -> None:
    async with pairing(tmp_path) as scene:
        raw = await scene.sdk.chat.completions.with_raw_response.create(
            model="assistant", messages=QUESTION, n=2, seed=7  # type: ignore[arg-type]  # plain dicts
        )  # fmt: skip
        answer = raw.parse()
        versions = [(choice.model_extra or {})["version"] for choice in answer.choices]
        assert sorted(versions) == ["v1", "v2"]
        assert [choice.message.content for choice in answer.choices] == [said_by(version) for version in versions]
        assert [choice.index for choice in answer.choices] == [0, 1]
        assert (answer.model, raw.headers["x-thumbwheel-version"]) == ("v1", "v1")
        assert raw.headers["x-thumbwheel-arm"] == "pair"
        assert answer.usage is not None
        usage = answer.usage.to_dict()
        assert usage == {"prompt_tokens": 2, "completion_tokens": 8, "total_tokens": 10}
        assert [(request["n"], request["seed"]) for request in scene.engine.requests] == [(1, 7), (1, 7)]
        assert len({headers["x-request-id"] for headers in scene.engine.headers}) == 2


async def test_each_side_of_a_streamed_pair_is_what_its_version_said(tmp_path: Path) -> None:
    async with pairing(tmp_path) as scene:
        scene.engine.pace_s = 0.01
        first = Counter[str]()
        for chunks in await asyncio.gather(*(streamed(scene) for _ in range(40))):
            texts, versions = defaultdict[int, str](str), defaultdict[int, set[str]](set)
            for choice in (choice for chunk in chunks for choice in chunk.choices):
                texts[choice.index] += choice.delta.content or ""
                versions[choice.index].add(choice.model_extra["version"])
            assert sorted(versions[0] | versions[1]) == ["v1", "v2"]
            assert all(texts[index] == said_by(*versions[index]) for index in (0, 1))
            assert {chunk.model for chunk in chunks} == {"v1"}
            assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
            first.update(versions[0])
        assert 5 < first["v1"] < 35  # of 40: missed by chance less than twice in a million


async def test_a_streams_usage_comes_once_and_counts_both(tmp_path: Path) -> None:
    async with pairing(tmp_path) as scene:
        *pieces, last = await streamed(scene, stream_options={"include_usage": True})
        assert (last.choices, last.usage.prompt_tokens, last.usage.completion_tokens) == ([], 2, 8)
        assert not any(piece.usage for piece in pieces)
        assert all(piece.choices for piece in pieces)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_event_of_a_pair_says_who_wrote_which_choice(tmp_path: Path, stream: bool) -> None:
    async with pairing(tmp_path) as scene:
        if stream:
            response_id = (await streamed(scene, user="ann"))[0].id
        else:
            response_id = await scene.answer_id(n=2, user="ann")
        event = await scene.inference(response_id)
        assert {choice.version: choice.arm for choice in event.choices} == {"v1": "champion", "v2": "challenger"}
        assert [(choice.index, choice.arm_propensity) for choice in event.choices] == [(0, 0.5), (1, 0.5)]
        for choice in event.choices:
            assert choice.message is not None
            assert choice.message["content"] == said_by(choice.version)
            assert (choice.token_ids, choice.finish_reason) == ([100, 101, 102, 103], "stop")
        assert (event.rollout_id, event.rollout_step, event.sampling["n"]) == ("r1", 2, 2)
        assert (event.prompt_token_ids, event.rateable) == ([7, 8], True)
        assert event.usage == {"prompt_tokens": 2, "completion_tokens": 8, "total_tokens": 10}


async def test_only_the_set_share_of_requests_for_two_is_paired(tmp_path: Path) -> None:
    async with pairing(tmp_path, pairs=0.5) as scene:
        arms = Counter([(await scene.chat(n=2, user="ann")).headers["x-thumbwheel-arm"] for _ in range(60)])
        assert 12 < arms["pair"] < 48
        assert len(arms) == 2  # the others get both from the version that this person sticks to


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 1},
        {"n": 3},
        {"n": 2, "model": "v1"},
        {"n": 2, "metadata": {"rollouts": "false"}},
        {"n": 2, "use_beam_search": True},
    ],
)
async def test_nothing_else_is_paired(tmp_path: Path, fields: dict[str, Any]) -> None:
    async with pairing(tmp_path) as scene:
        answer = await scene.chat(**fields)
        assert answer.headers["x-thumbwheel-arm"] != "pair"
        assert "version" not in answer.json()["choices"][0]
        assert len(scene.engine.requests) == 1


async def test_both_versions_of_a_pair_are_under_way_until_it_is_done(tmp_path: Path) -> None:
    async with pairing(tmp_path) as scene:
        scene.engine.held = {"v2": asyncio.Event()}
        asking = asyncio.create_task(scene.chat(n=2))
        await eventually(lambda: in_flight(scene) == {"v1": 1, "v2": 1})
        scene.engine.held["v2"].set()
        assert (await asking).status_code == 200
        await eventually(lambda: in_flight(scene) == {})


@pytest.mark.parametrize(
    ("failure", "stream"), [("crash", False), ("crash", True), ("busy", False), ("busy", True), ("garbage", False)]
)
async def test_a_pair_whose_challenger_fails_becomes_two_answers_of_the_champion_and_no_evidence(
    tmp_path: Path, failure: Failure, stream: bool
) -> None:
    async with pairing(tmp_path) as scene:
        scene.engine.faults["v2"] = failure
        answer = await scene.chat(n=2, stream=stream)
        assert (answer.status_code, answer.headers["x-thumbwheel-arm"]) == (200, "champion")
        assert scene.engine.requests[-1]["model"] == "v1"
        assert scene.engine.requests[-1]["n"] == 2
        (event,) = await scene.inferences()
        assert [choice.version for choice in event.choices] == ["v1", "v1"]
        assert (event.rollout_step, event.status) == (None, InferenceStatus.COMPLETED)
        assert [choice.token_ids for choice in event.choices] == [[100, 101, 102, 103]] * 2


async def test_a_pair_whose_champion_fails_asks_it_once_more_and_then_says_so(tmp_path: Path) -> None:
    async with pairing(tmp_path) as scene:
        scene.engine.faults["v1"] = "crash"
        assert (await scene.chat(n=2)).status_code == 502
        (event,) = await scene.inferences()
        assert (event.status, event.rollout_step) == (InferenceStatus.FAILED, None)
        assert [request["n"] for request in scene.engine.requests if request["model"] == "v1"] == [1, 2]


async def test_a_challenger_that_no_engine_has_any_more_costs_no_request(tmp_path: Path) -> None:
    async with pairing(tmp_path) as scene:
        scene.engine.known.discard("v2")
        answer = await scene.chat(n=2)
        assert (answer.status_code, answer.headers["x-thumbwheel-arm"]) == (200, "champion")
        assert "thumbwheel_gateway_reroutes_total 1.0" in (await scene.http.get("/metrics")).text


async def test_a_request_that_is_wrong_is_wrong_for_both_arms_and_not_sent_again(tmp_path: Path) -> None:
    async with pairing(tmp_path) as scene:
        scene.engine.faults = {"v1": "refuse", "v2": "refuse"}
        assert (await scene.chat(n=2)).status_code == 400
        assert [request["n"] for request in scene.engine.requests] == [1, 1]


@pytest.mark.parametrize("failure", ["die_midway", "fail_midway"])
async def test_a_side_that_fails_after_something_was_sent_ends_the_stream_with_an_error(
    tmp_path: Path, failure: Failure
) -> None:
    async with pairing(tmp_path) as scene:
        scene.engine.pace_s = 0.05
        scene.engine.faults["v2"] = failure
        with pytest.raises(openai.APIError, match="the engine"):
            await streamed(scene)
        (event,) = await scene.inferences()
        assert event.status is InferenceStatus.FAILED
        assert {choice.version: len(choice.token_ids) for choice in event.choices}["v2"] == 2
        assert {choice.arm for choice in event.choices} == {"champion", "challenger"}
        await eventually(lambda: in_flight(scene) == {})


async def test_a_client_that_leaves_cancels_both_sides(tmp_path: Path) -> None:
    async with pairing(tmp_path) as scene:
        scene.engine.pace_s, scene.engine.tokens = 0.05, 200
        stream = await scene.sdk.chat.completions.create(model="assistant", messages=QUESTION, n=2, stream=True)
        async for _ in stream:
            break
        await stream.close()
        await eventually(lambda: scene.engine.cancelled == 2)
        (event,) = await scene.inferences()
        assert event.status is InferenceStatus.CANCELLED
        assert {choice.arm for choice in event.choices} == {"champion", "challenger"}


async def test_the_event_is_safe_before_either_side_is_known_to_be_the_last(tmp_path: Path) -> None:
    async with pairing(tmp_path) as scene:
        body = {"model": "assistant", "messages": QUESTION, "stream": True, "n": 2}
        async with scene.http.stream("POST", "/v1/chat/completions", json=body) as response:
            ends = 0
            async for line in response.aiter_lines():
                ends += line.count('"finish_reason":"stop"')
                if ends == 2:
                    segments = (tmp_path / "spool").glob("*/*.segment")
                    assert sum(segment.stat().st_size for segment in segments) > 0 or scene.stack.inferences()
                    return
        raise AssertionError("the pair never finished")


def test_usage_counts_the_prompt_once_and_what_was_written_in_full() -> None:
    one = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8, "prompt_tokens_details": None}
    other = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
    assert joint([one, other]) == {
        "prompt_tokens": 5,
        "completion_tokens": 7,
        "total_tokens": 12,
        "prompt_tokens_details": None,
    }


async def test_what_fails_first_is_raised_and_ends_the_rest() -> None:
    ended = asyncio.Event()

    async def fails() -> None:
        raise KeyError("first")

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(KeyError, match="first"):
        await together([waits(), fails()])
    assert ended.is_set()
