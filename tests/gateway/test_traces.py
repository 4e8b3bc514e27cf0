"""Traces over HTTP: asked for by one call, answered by the feedback process, fetched by another."""

from pathlib import Path
from typing import Any

import pytest

from feedback.tracing.tracing import Tracing
from feedback.tracing.wishes import Tracer
from infra.registry import traces
from infra.registry.keys import Scope
from tests.support.feedback import Room
from tests.support.scene import Scene, open_scene


def answer_all(scene: Scene) -> int:
    """What the feedback process does, once."""
    ports = scene.stack.ports
    Room(scene.stack.home, ports.database, ports.sealer, ports.eventlog).consume()
    return Tracer(ports.database, Tracing(ports.database, ports.sealer, ports.artifacts), 5.0).turn()


async def asked(scene: Scene, **body: Any) -> dict[str, Any]:
    answer = await scene.admin("POST", "/traces", body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def test_an_answer_and_its_vote_are_traced(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        response_id = await scene.answer_id(user="mia")
        cast = {"response_id": response_id, "rater": "mia", "name": "thumbs", "value": True}
        feedback_id = (await scene.http.post("/v1/feedback", json=cast)).json()["feedback_id"]
        await scene.inference(response_id)
        first = await asked(scene, response_id=response_id)
        second = await asked(scene, event_id=feedback_id)
        assert (first["state"], first["answer"]) == ("requested", None)
        assert answer_all(scene) == 2
        told, reached = [(await scene.admin("GET", f"/traces/{one['trace_id']}")).json() for one in (first, second)]
        assert (told["state"], told["answer"]["response_id"]) == ("done", response_id)
        assert told["answer"]["choices"][0]["version"] == "base"
        assert [vote["kind"] for vote in told["answer"]["votes"]] == ["thumbs"]
        assert (reached["answer"]["event"]["state"], reached["answer"]["response_ids"]) == ("joined", [response_id])


async def test_what_is_not_there_is_answered_so(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        trace = await asked(scene, response_id="nothing")
        answer_all(scene)
        told = (await scene.admin("GET", f"/traces/{trace['trace_id']}")).json()
        assert (told["state"], told["answer"]) == ("not_found", None)
        assert "nothing" in told["reason"]
        assert (await scene.admin("GET", "/traces/unknown")).status_code == 404


@pytest.mark.parametrize(
    "body",
    [{}, {"response_id": "r", "event_id": "e"}, {"response_id": "r", "limit": 1001}, {"response_id": "r\0"}],
    ids=["nothing", "both", "too many", "no name"],
)
async def test_a_question_that_is_none_is_refused(tmp_path: Path, body: dict[str, Any]) -> None:
    async with open_scene(tmp_path) as scene:
        answer = await scene.admin("POST", "/traces", body)
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
        with scene.stack.ports.database.reading() as session:
            assert traces.requested(session) == []


async def test_a_tenant_sees_its_own_traces_and_answers_alone(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        response_id = await scene.answer_id()
        await scene.inference(response_id)
        trace = await asked(scene, response_id=response_id)
        foreign = {"Authorization": f"Bearer {scene.stack.add_key(Scope.ADMIN, tenant='acme')}"}
        path = "/admin/v1/traces"
        theirs = (await scene.http.post(path, json={"response_id": response_id}, headers=foreign)).json()
        answer_all(scene)
        assert (await scene.http.get(f"{path}/{trace['trace_id']}", headers=foreign)).status_code == 404
        found = await scene.http.get(f"{path}/{theirs['trace_id']}", headers=foreign)
        assert found.json()["state"] == "not_found"


async def test_only_an_admin_may_trace(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        assert (await scene.http.post("/admin/v1/traces", json={"response_id": "r"})).status_code == 403
