"""From a chat to weights and back: an answer names the vote that made its version, and the vote names that version."""

from pathlib import Path
from typing import Any

from feedback.tracing.tracing import Tracing
from feedback.tracing.wishes import Tracer
from infra.clock import now
from tests.support.feedback import Room
from tests.support.lineages import VERSION, train
from tests.support.scene import Scene, open_scene


async def compare_two(scene: Scene) -> tuple[str, str]:
    """A chat with two choices and a comparison of them; returns the response id and the vote's event id."""
    chat = await scene.chat(n=2, user="mia", metadata={"consent_train": "true"})
    response_id = chat.json()["id"]
    a, b = ({"response_id": response_id, "index": at} for at in (0, 1))
    cast = {"a": a, "b": b, "rater": "mia", "choice": "a", "consent_train": True}
    vote = await scene.http.post("/v1/comparisons", json=cast)
    await scene.inference(response_id)
    return response_id, vote.json()["feedback_id"]


async def traced(scene: Scene, tracer: Tracer, **question: Any) -> dict[str, Any]:
    trace = (await scene.admin("POST", "/traces", question)).json()
    assert tracer.turn() == 1
    return dict((await scene.admin("GET", f"/traces/{trace['trace_id']}")).json()["answer"])


async def test_an_answer_and_the_vote_that_made_its_version_lead_to_each_other(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        ports = scene.stack.ports
        room = Room(tmp_path, ports.database, ports.sealer, ports.eventlog)
        tracer = Tracer(ports.database, Tracing(ports.database, ports.sealer, ports.artifacts), 5.0)
        asked, vote = await compare_two(scene)
        room.consume()
        dataset = room.build(as_of=now())
        cycle_id = train(room, dataset)
        scene.engine.known.add(VERSION)
        await scene.republish(versions={VERSION: 1.0})
        answer = await scene.answer_id(user="ann")
        await scene.inference(answer)
        room.consume()
        back = await traced(scene, tracer, response_id=answer, events=True)
        on, owner = [await traced(scene, tracer, event_id=one) for one in (vote, asked)]
    (version,) = back["versions"]
    assert (back["choices"][0]["version"], version["version"]) == (VERSION, VERSION)
    assert (version["cycle"]["cycle_id"], version["datasets"][0]["dataset_id"]) == (cycle_id, dataset.dataset_id)
    made_of = {event["event_id"]: event["kind"] for event in version["events"]["page"]}
    assert made_of == {vote.replace("-", ""): "comparison", owner["event"]["event_id"]: "inference"}
    assert back["routing_revision"] == 2
    for reached in (on, owner):
        assert [one["dataset_id"] for one in reached["datasets"]] == [dataset.dataset_id]
        assert [one["version"] for one in reached["versions"]] == [VERSION]
        assert [one["cycle_id"] for one in reached["cycles"]] == [cycle_id]
    assert {row["table"] for row in on["datasets"][0]["rows"]} == {"preference"}
    assert {row["table"] for row in owner["datasets"][0]["rows"]} == {"preference", "prompts"}
