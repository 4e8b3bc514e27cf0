"""What must never reach a store: bodies that no reader of ours could read again."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.scene import Scene, open_scene

JSON = {"Content-Type": "application/json"}


async def refused(scene: Scene, path: str, body: str, *, admin: bool = False) -> Any:
    """The error of a body that is refused."""
    key = scene.stack.admin_key if admin else scene.stack.client_key
    answer = await scene.http.post(path, content=body, headers={**JSON, "Authorization": f"Bearer {key}"})
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]


@pytest.mark.parametrize("depth", [100, 251, 253, 900, 100_000])
async def test_a_chat_nested_too_deeply_is_refused_before_the_engine_sees_it(tmp_path: Path, depth: int) -> None:
    async with open_scene(tmp_path) as scene:
        nested = "[" * depth + "]" * depth
        for fields in (f'"messages": [{{"role": "user", "content": {nested}}}]', f'"messages": [], "other": {nested}'):
            error = await refused(scene, "/v1/chat/completions", f'{{"model": "assistant", {fields}}}')
            assert error["code"] in ("nested_too_deeply", "invalid_json")
        assert not scene.engine.requests


async def test_a_long_chat_is_not_a_deep_one(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        parts = [{"type": "text", "text": "[{[{"}] * 3
        messages = [{"role": "user", "content": parts}] * 200
        response_id = await scene.answer_id(messages=messages, tools=json.loads("[" * 80 + "]" * 80))
        assert (await scene.inference(response_id)).request["messages"] == messages


@pytest.mark.parametrize("value", ['"\\ud800"', "NaN", "Infinity", "1e999", "1" * 400, "[" * 100_000, "tru"])
@pytest.mark.parametrize("field", ["value", "latency_ms", "x\\udc00"])
async def test_a_vote_that_could_not_be_read_again_is_refused(tmp_path: Path, field: str, value: str) -> None:
    async with open_scene(tmp_path) as scene:
        vote = f'{{"response_id": "r", "name": "length", "value": 1, "{field}": {value}}}'
        assert (await refused(scene, "/v1/feedback", vote))["code"] == "invalid_json"
        assert scene.stack.feedback_events() == []


async def test_a_whole_number_that_some_reader_would_round_is_stored_as_a_fraction(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        for value in (2**53, 2**60):
            body = {"response_id": await scene.answer_id(), "name": "length", "value": value}
            assert (await scene.http.post("/v1/feedback", json=body)).status_code == 202
        stored = {vote.value: type(vote.value) for _, vote in scene.stack.feedback_events()}
        assert stored == {2**53: int, 2**60: float}


@pytest.mark.parametrize("body", ['{"reason": "\\ud800"}', '{"settings": {"\\ud800": 1}}', '{"reason": "a\\u0000b"}'])
async def test_an_action_whose_words_no_database_holds_is_refused(tmp_path: Path, body: str) -> None:
    async with open_scene(tmp_path) as scene:
        await refused(scene, "/admin/v1/cycles:trigger", body, admin=True)
        assert (await scene.admin("GET", "/audit")).json()["data"][0]["action"] != "cycle.trigger"


async def test_our_own_rules_are_told_in_our_own_words(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        chat = await scene.chat(stream_options={"include_usage": True})
        assert chat.json()["error"]["message"] == "`stream_options` needs `stream`"
        vote = await scene.http.post("/v1/feedback", json={"name": "thumbs", "value": True})
        assert vote.json()["error"]["message"] == "give either `response_id` or `session_id`"
