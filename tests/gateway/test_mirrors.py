"""Shadow answers: what a version on trial says to a request that somebody else has answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog

from infra.contracts.events import Inference, InferenceStatus
from tests.gateway.test_streams import in_flight
from tests.support.scene import Scene, eventually, open_scene
from tests.support.scripted_engine import ScriptedEngine
from tests.support.stack import running_gateway

SHADOW = {"loaded": ["v2"], "versions": {"v1": 1.0}, "rollout_id": "r1", "rollout_step": 0, "mirrors": {"v2": 1.0}}
COMPLETED = 'thumbwheel_gateway_mirrors_total{outcome="completed"} 1.0\n'


@asynccontextmanager
async def mirroring(home: Path, *, share: float = 1.0, **settings: Any) -> AsyncIterator[Scene]:
    engine = ScriptedEngine(known={"base", "v2"})
    async with open_scene(home, table={**SHADOW, "mirrors": {"v2": share}}, engine=engine, **settings) as scene:
        yield scene


def asked_of(scene: Scene, version: str) -> list[dict[str, Any]]:
    return [request for request in scene.engine.requests if request["model"] == version]


async def both_events(scene: Scene, shown_id: str) -> tuple[Inference, Inference]:
    """The shown answer's and its shadow's."""
    events = await scene.inferences(count=2)
    (shadow,) = [event for event in events if event.shadow_of == shown_id]
    (shown,) = [event for event in events if event.response_id == shown_id]
    return shown, shadow


@pytest.mark.parametrize("stream", [False, True])
async def test_a_mirrored_request_has_an_event_of_its_own_that_points_at_what_was_shown(
    tmp_path: Path, stream: bool
) -> None:
    async with mirroring(tmp_path, share=0.999) as scene:
        metadata = {"session_id": "s1", "segment": "trial", "consent_train": "true"}
        answer = await scene.chat(user="ann", n=2, stream=stream, temperature=0.3, metadata=metadata)
        assert "v2" not in answer.text
        shown, shadow = await both_events(scene, answer.headers["x-request-id"])
        assert {choice.version for choice in shown.choices} == {"v1"}
        assert [(c.version, c.arm, c.arm_propensity) for c in shadow.choices] == [("v2", "shadow", 0.999)] * 2
        assert shadow.choices[0].message is not None
        assert shadow.choices[0].message["content"].startswith("v2/0.0")
        assert (shadow.rateable, shown.rateable, shown.shadow_of) == (False, True, None)
        assert (shadow.rollout_id, shadow.rollout_step) == ("r1", 0)
        assert (shadow.request, shadow.sampling) == (shown.request, shown.sampling)
        envelopes = {body.response_id: envelope for envelope, body in scene.stack.inference_events()}
        one, other = envelopes[shown.response_id], envelopes[shadow.response_id]
        assert (one.rater, one.session_id, one.segment, one.consent) == (
            other.rater,
            other.session_id,
            other.segment,
            other.consent,
        )


async def test_a_mirrored_request_yields_to_users_and_is_not_streamed(tmp_path: Path) -> None:
    async with mirroring(tmp_path) as scene:
        await scene.chat(stream=True, stream_options={"include_usage": True}, priority=-7, n=2)
        await scene.until_metric(COMPLETED)
        (shown,), (mirrored,) = asked_of(scene, "v1"), asked_of(scene, "v2")
        assert mirrored["priority"] > 0
        assert "priority" not in shown
        assert not {"stream", "stream_options"} & mirrored.keys()
        assert (mirrored["n"], mirrored["messages"]) == (2, shown["messages"])


async def test_a_user_is_answered_before_the_mirror_is_asked_and_never_waits_for_it(tmp_path: Path) -> None:
    async with mirroring(tmp_path) as scene:
        scene.engine.held = {"v1": asyncio.Event(), "v2": asyncio.Event()}
        asking = asyncio.create_task(scene.chat())
        await eventually(lambda: len(scene.engine.requests) == 1)
        assert not asked_of(scene, "v2")
        scene.engine.held["v1"].set()
        assert (await asking).status_code == 200  # while the shadow is still held
        await eventually(lambda: len(asked_of(scene, "v2")) == 1)
        await eventually(lambda: in_flight(scene) == {"v2": 1})
        scene.engine.held["v2"].set()
        await scene.until_metric(COMPLETED)
        await eventually(lambda: in_flight(scene) == {})


async def test_no_more_than_the_set_number_is_mirrored_at_a_time(tmp_path: Path) -> None:
    async with mirroring(tmp_path, gateway={"mirror_most": 2}) as scene:
        scene.engine.held = {"v2": asyncio.Event()}
        for _ in range(5):
            assert (await scene.chat()).status_code == 200
        await scene.until_metric('thumbwheel_gateway_mirrors_total{outcome="skipped"} 3.0\n')
        await eventually(lambda: len(asked_of(scene, "v2")) == 2)
        scene.engine.held["v2"].set()
        await scene.until_metric('thumbwheel_gateway_mirrors_total{outcome="completed"} 2.0\n')
        await scene.chat()
        await scene.until_metric('thumbwheel_gateway_mirrors_total{outcome="completed"} 3.0\n')


@pytest.mark.parametrize("fields", [{"store": False}, {"model": "v1"}, {"metadata": {"rollouts": "false"}}])
async def test_what_is_not_to_be_kept_or_takes_no_part_is_not_mirrored(tmp_path: Path, fields: dict[str, Any]) -> None:
    async with mirroring(tmp_path) as scene:
        assert (await scene.chat(**fields)).status_code == 200
        await scene.chat()
        await scene.until_metric(COMPLETED)
        assert len(asked_of(scene, "v2")) == 1


async def test_only_completed_answers_are_mirrored(tmp_path: Path) -> None:
    async with mirroring(tmp_path) as scene:
        scene.engine.pace_s = 0.02
        for failure in ("crash", "refuse"):
            scene.engine.faults["v1"] = failure  # type: ignore[assignment]  # both are failures
            assert (await scene.chat()).status_code >= 400
        scene.engine.faults["v1"] = "fail_midway"
        assert '"error"' in (await scene.chat(stream=True)).text
        scene.engine.faults.clear()
        await scene.chat()
        await scene.until_metric(COMPLETED)
        assert len(asked_of(scene, "v2")) == 1


async def test_a_mirror_that_fails_is_told_without_content_and_not_tried_again(tmp_path: Path) -> None:
    async with mirroring(tmp_path) as scene:
        scene.engine.faults["v2"] = "crash"
        with structlog.testing.capture_logs() as lines:
            shown_id = await scene.answer_id()
            _, shadow = await both_events(scene, shown_id)
        assert (shadow.status, shadow.rollout_step) == (InferenceStatus.FAILED, 0)
        assert [(choice.version, choice.arm, choice.token_ids) for choice in shadow.choices] == [("v2", "shadow", [])]
        (line,) = [line for line in lines if line["event"] == "mirror_failed"]
        assert (line["version"], line["reason"]) == ("v2", "EngineFailed")
        assert len(asked_of(scene, "v2")) == 1
        metrics = (await scene.http.get("/metrics")).text
        assert 'thumbwheel_gateway_answers_total{outcome="completed"} 1.0' in metrics
        assert 'thumbwheel_gateway_answers_total{outcome="failed"}' not in metrics


@pytest.mark.parametrize("failure", ["busy", "refuse"])
async def test_a_mirror_that_was_not_taken_leaves_no_event(tmp_path: Path, failure: Any) -> None:
    async with mirroring(tmp_path) as scene:
        scene.engine.faults["v2"] = failure
        await scene.chat()
        await scene.until_metric('thumbwheel_gateway_mirrors_total{outcome="failed"} 1.0\n')
        assert len(asked_of(scene, "v2")) == 1
        assert [event.shadow_of for event in await scene.inferences()] == [None]


async def test_a_step_that_is_over_mirrors_no_answer_that_began_in_it(tmp_path: Path) -> None:
    async with mirroring(tmp_path) as scene:
        scene.engine.held = {"v1": asyncio.Event()}
        asking = asyncio.create_task(scene.chat())
        await eventually(lambda: len(scene.engine.requests) == 1)
        await scene.republish(**{**SHADOW, "rollout_step": 1})
        scene.engine.held["v1"].set()
        assert (await asking).status_code == 200
        await scene.chat()
        await scene.until_metric(COMPLETED)
        assert len(asked_of(scene, "v2")) == 1


async def test_a_stopping_gateway_gives_its_mirrors_up(tmp_path: Path) -> None:
    async with mirroring(tmp_path) as scene:
        scene.engine.held = {"v2": asyncio.Event()}
        async with running_gateway(scene.stack) as url:
            body = {"model": "assistant", "messages": [{"role": "user", "content": "hi"}]}
            assert (await scene.http.post(f"{url}/v1/chat/completions", json=body)).status_code == 200
            await eventually(lambda: len(asked_of(scene, "v2")) == 1)
        await eventually(lambda: scene.engine.cancelled == 1)
        assert [event.shadow_of for event in await scene.inferences()] == [None]
