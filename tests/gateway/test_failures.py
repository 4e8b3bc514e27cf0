import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest

from infra.contracts.events import InferenceStatus
from infra.contracts.routing import ReplicaState
from tests.support.scene import QUESTION, Scene, open_scene
from tests.support.scripted_engine import Failure, ScriptedEngine, running_engine
from tests.support.stack import free_port

ONE_VERSION = {"versions": {"v1": 1.0}}


async def status_and_code(scene: Scene, **fields: Any) -> tuple[int, str | None]:
    answer = await scene.chat(**fields)
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("failure", "error", "status"),
    [
        ("refuse", openai.BadRequestError, 400),
        ("crash", openai.InternalServerError, 502),
        ("busy", openai.InternalServerError, 503),
        ("silent", openai.InternalServerError, 504),
    ],
)
async def test_each_failure_of_the_engine_has_its_error_class(
    tmp_path: Path, failure: Failure, error: type[openai.APIStatusError], status: int, stream: bool
) -> None:
    async with open_scene(tmp_path, gateway={"upstream_timeout_s": 0.3}) as scene:
        scene.engine.script.extend([failure, failure])
        with pytest.raises(error) as caught:
            await scene.sdk.chat.completions.create(model="assistant", messages=QUESTION, stream=stream)
        assert caught.value.status_code == status
        assert "/secret/path" not in str(caught.value)
        assert (caught.value.response.headers.get("retry-after") is not None) == (status == 503)


async def test_the_engines_own_words_say_what_is_wrong_with_a_request(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        scene.engine.script.append("refuse")
        answer = await scene.chat()
        assert answer.json()["error"] == {
            "message": "maximum context length is 8 tokens",
            "type": "invalid_request_error",
            "param": "messages",
            "code": None,
        }


async def test_an_answer_that_cannot_be_read_is_the_engines_failure(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        scene.engine.script.extend(["garbage", "strange"])
        for _ in range(2):
            assert await status_and_code(scene) == (502, "engine_failed")


async def test_an_engine_that_is_away_is_503_with_a_time_to_come_back(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        await scene.republish(engines=[f"http://127.0.0.1:{free_port()}"])
        answer = await scene.chat()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")
        assert answer.headers["retry-after"] == "1"


async def test_without_a_ready_replica_nothing_is_asked(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        await scene.republish(state=ReplicaState.DOWN)
        assert await status_and_code(scene) == (503, "engine_unavailable")
        assert (await scene.http.get("/readyz")).status_code == 503
        assert not scene.engine.requests


async def test_an_adapter_the_engine_does_not_have_is_answered_by_the_champion_once(tmp_path: Path) -> None:
    async with open_scene(tmp_path, table={"versions": {"v1": 0.0, "gone": 1.0}}) as scene:
        scene.engine.known.discard("gone")
        answer = await scene.chat()
        assert (answer.json()["model"], answer.headers["x-thumbwheel-version"]) == ("v1", "v1")
        assert [request["model"] for request in scene.engine.requests] == ["gone", "v1"]
        event = await scene.inference(answer.json()["id"])
        assert event.choices[0].version == "v1"


async def test_a_champion_the_engine_does_not_have_is_503_after_one_more_try(tmp_path: Path) -> None:
    async with open_scene(tmp_path, table=ONE_VERSION) as scene:
        scene.engine.known.clear()
        assert await status_and_code(scene) == (503, "engine_unavailable")
        assert len(scene.engine.requests) == 2


async def test_a_pinned_version_is_never_answered_by_another(tmp_path: Path) -> None:
    async with open_scene(tmp_path, table={"versions": {"v1": 0.5, "v2": 0.5}}) as scene:
        scene.engine.known.discard("v2")
        assert await status_and_code(scene, model="v2") == (404, "model_not_found")


async def test_another_replica_answers_for_one_that_is_away(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene, running_engine(ScriptedEngine()) as other:
        away = f"http://127.0.0.1:{free_port()}"
        await scene.republish(engines=[away, other.address])
        for _ in range(6):
            assert (await scene.chat()).status_code == 200


async def test_an_answer_that_breaks_off_before_its_first_word_is_given_by_another_replica(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene, running_engine(ScriptedEngine()) as other:
        await scene.republish(engines=[scene.engine.address, other.address])
        await scene.chat()
        (scene.engine if scene.engine.requests else other).script.append("die_early")
        stream = await scene.sdk.chat.completions.create(model="assistant", messages=QUESTION, stream=True)
        chunks = [chunk async for chunk in stream]
        assert chunks[-1].choices[0].finish_reason == "stop"
        assert (len(scene.engine.requests), len(other.requests)) in ((2, 1), (1, 2))
        event = await scene.inference(chunks[0].id)
        assert (event.status, event.choices[0].token_ids) == (InferenceStatus.COMPLETED, [100, 101, 102, 103])


async def test_an_answer_whose_first_words_are_out_is_never_begun_again_elsewhere(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene, running_engine(ScriptedEngine()) as other:
        await scene.republish(engines=[scene.engine.address, other.address])
        for engine in (scene.engine, other):
            engine.pace_s = 0.05
            engine.script.append("die_midway")
        stream = await scene.sdk.chat.completions.create(model="assistant", messages=QUESTION, stream=True)
        with pytest.raises(openai.APIError, match="the engine broke off"):
            [chunk async for chunk in stream]
        assert len(scene.engine.requests) + len(other.requests) == 1
        (event,) = await scene.inferences()
        assert event.status == InferenceStatus.FAILED


async def test_a_replica_that_has_just_failed_is_not_asked_by_the_next_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.routing.AVOID_S", 60.0)
    async with open_scene(tmp_path) as scene, running_engine(ScriptedEngine()) as other:
        await scene.republish(engines=[scene.engine.address, other.address])
        await scene.chat()
        home = scene.engine if scene.engine.requests else other
        home.script.append("busy")
        for _ in range(4):
            assert (await scene.chat()).is_success
        assert (len(scene.engine.requests), len(other.requests)) in ((2, 4), (4, 2))
        assert len(home.requests) == 2


async def test_a_timeout_leaves_an_event_that_says_failed_and_a_refusal_leaves_none(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway={"upstream_timeout_s": 0.3}) as scene:
        scene.engine.script.extend(["refuse", "silent"])
        await scene.chat()
        await scene.chat()
        (event,) = await scene.inferences()
        (choice,) = event.choices
        assert (event.status, choice.version, choice.arm) == (InferenceStatus.FAILED, "base", "champion")
        assert (choice.finish_reason, choice.token_ids) == (None, []), "which version failed is known, and nothing else"


async def test_a_full_spool_costs_events_and_says_so_but_never_answers(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway={"spool_max_bytes": 100}) as scene:
        assert (await scene.chat()).status_code == 200
        assert "thumbwheel_gateway_events_lost_total 1.0" in (await scene.http.get("/metrics")).text


async def test_a_gateway_that_cannot_read_the_registry_goes_on_with_what_it_has(tmp_path: Path) -> None:
    versions = {"v1": 0.5, "v2": 0.5}
    async with open_scene(tmp_path, table={"versions": versions}, gateway={"routing_max_age_s": 0.2}) as scene:
        people = [str(person) for person in range(12)]
        before = {(await scene.chat(user=person)).json()["model"] for person in people}
        with scene.stack.ports.database.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE routing RENAME TO lost")
        await asyncio.sleep(0.5)
        after = {(await scene.chat(user=person)).json()["model"] for person in people}
        assert (before, after) == ({"v1", "v2"}, {"v1"})
