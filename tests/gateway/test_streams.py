import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from infra.contracts.events import InferenceStatus
from tests.support.scene import QUESTION, Scene, eventually, open_scene

ONE_VERSION = {"versions": {"v1": 1.0}}


async def pieces_of(scene: Scene, **fields: Any) -> list[dict[str, Any]]:
    """The data of one stream, decoded; it must end with [DONE]."""
    *events, done, _ = (await scene.chat(stream=True, **fields)).text.split("\n\n")
    assert done == "data: [DONE]"
    return [json.loads(event.removeprefix("data: ")) for event in events]


async def test_a_stream_joins_to_the_answer_and_says_one_version(tmp_path: Path) -> None:
    async with open_scene(tmp_path, table=ONE_VERSION) as scene:
        stream = await scene.sdk.chat.completions.create(model="assistant", messages=QUESTION, stream=True)
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "v1/0.0 v1/0.1 v1/0.2 v1/0.3 "
        assert {chunk.model for chunk in chunks} == {"v1"}
        assert len({chunk.id for chunk in chunks}) == 1
        assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "stop"


async def test_streamed_pieces_hold_only_what_was_asked_for(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        for piece in await pieces_of(scene):
            assert "usage" not in piece
            assert "prompt_token_ids" not in piece
            assert not {"logprobs", "token_ids"} & piece["choices"][0].keys()
            assert piece["choices"][0]["delta"] or piece["choices"][0]["finish_reason"]


async def test_usage_logprobs_and_token_ids_are_streamed_when_asked_for(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        asked = {"stream_options": {"include_usage": True}, "logprobs": True, "return_token_ids": True}
        *pieces, last = await pieces_of(scene, **asked)
        assert (last["choices"], last["usage"]["total_tokens"]) == ([], 6)
        assert [token for piece in pieces for token in piece["choices"][0].get("token_ids", [])] == [100, 101, 102, 103]
        assert sum("logprobs" in piece["choices"][0] for piece in pieces) == 4


async def test_a_streams_event_equals_that_of_a_whole_answer(tmp_path: Path) -> None:
    async with open_scene(tmp_path, table=ONE_VERSION) as scene:
        streamed = (await pieces_of(scene, n=2))[0]["id"]
        whole = await scene.answer_id(n=2)
        first, second = await scene.inference(streamed), await scene.inference(whole)
        assert [c.token_ids for c in first.choices] == [c.token_ids for c in second.choices]
        assert [c.logprobs for c in first.choices] == [c.logprobs for c in second.choices]
        assert [c.message and c.message["content"] for c in first.choices] == [
            c.message and c.message["content"] for c in second.choices
        ]
        assert (first.usage, first.prompt_token_ids) == (second.usage, second.prompt_token_ids)


async def test_streamed_tool_calls_join_in_the_event(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        scene.engine.script.append("tool")
        pieces = await pieces_of(scene)
        event = await scene.inference(pieces[0]["id"])
        message = event.choices[0].message
        assert message is not None
        assert message["tool_calls"][0]["function"]["name"] == "weather"
        assert event.choices[0].finish_reason == "tool_calls"


async def test_the_event_is_safe_before_the_client_can_know_the_answer_is_complete(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        body = {"model": "assistant", "messages": QUESTION, "stream": True}
        async with scene.http.stream("POST", "/v1/chat/completions", json=body) as response:
            async for line in response.aiter_lines():
                if '"finish_reason":"stop"' in line:
                    segments = (tmp_path / "spool").glob("*/*.segment")
                    spooled = sum(segment.stat().st_size for segment in segments)
                    assert spooled > 0 or scene.stack.inferences()
                    return
        raise AssertionError("the stream never finished")


async def test_a_client_that_leaves_cancels_the_engine_and_the_event_says_so(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        scene.engine.pace_s = 0.05
        scene.engine.tokens = 100
        stream = await scene.sdk.chat.completions.create(model="assistant", messages=QUESTION, stream=True)
        async for _ in stream:
            break
        await stream.close()
        await eventually(lambda: scene.engine.cancelled == 1)
        (event,) = await scene.inferences()
        assert event.status is InferenceStatus.CANCELLED
        assert event.choices[0].finish_reason is None


async def test_a_client_that_leaves_a_whole_answer_cancels_it_too(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        scene.engine.pace_s = 0.2
        with pytest.raises(httpx.ReadTimeout):
            await scene.http.post(
                "/v1/chat/completions", json={"model": "assistant", "messages": QUESTION}, timeout=0.3
            )
        await eventually(lambda: scene.engine.cancelled == 1)
        (event,) = await scene.inferences()
        assert event.status is InferenceStatus.CANCELLED


async def test_what_is_under_way_is_reported_and_then_no_more(tmp_path: Path) -> None:
    async with open_scene(tmp_path, table=ONE_VERSION) as scene:
        scene.engine.pace_s = 0.3
        asking = asyncio.create_task(scene.chat())
        await eventually(lambda: in_flight(scene) == {"v1": 1})
        await asking
        await eventually(lambda: in_flight(scene) == {})


def in_flight(scene: Scene) -> dict[str, int]:
    from infra.registry import fleet

    with scene.stack.ports.database.reading() as session:
        (row,) = fleet.live_gateways(session, 5)
        return dict(row.in_flight)


async def test_an_engine_that_dies_midway_ends_the_stream_with_an_error(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        scene.engine.pace_s = 0.05
        for failure in ("die_midway", "fail_midway"):
            scene.engine.script.append(failure)  # type: ignore[arg-type]  # both are failures
            stream = await scene.sdk.chat.completions.create(model="assistant", messages=QUESTION, stream=True)
            with pytest.raises(openai.APIError, match="the engine"):
                async for _ in stream:
                    pass
        events = await scene.inferences(count=2)
        assert [event.status for event in events] == [InferenceStatus.FAILED] * 2
        assert events[0].choices[0].token_ids == [100, 101]


async def test_a_stream_that_was_begun_ends_on_its_version_while_new_ones_start_on_the_next(tmp_path: Path) -> None:
    async with open_scene(tmp_path, table=ONE_VERSION) as scene:
        scene.engine.known.add("v2")
        scene.engine.pace_s = 0.1
        begun = asyncio.create_task(pieces_of(scene))
        await asyncio.sleep(0.15)
        await scene.republish(versions={"v2": 1.0}, previous=["v1"])
        after = await pieces_of(scene)
        assert {piece["model"] for piece in await begun} == {"v1"}
        assert {piece["model"] for piece in after} == {"v2"}
