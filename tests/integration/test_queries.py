"""A question of training all the way: handed out, answered, in the next dataset, and gone with its owner."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from infra.clock import now
from tests.support.feedback import Room
from tests.support.queries import make_query, put_queries
from tests.support.scene import Scene, open_scene
from tests.support.stack import TENANT

TEXTS = {"one is this.", "one is that."}


async def answer(scene: Scene, rater: str) -> None:
    """This rater gets the question and likes the answer that says `this`."""
    pair = (await scene.http.get("/v1/comparisons/query", params={"rater": rater})).raise_for_status().json()
    a, b = ({name: pair[side][name] for name in ("response_id", "index")} for side in "ab")
    choice = "a" if "this" in pair["a"]["message"]["content"] else "b"
    vote = {"a": a, "b": b, "rater": rater, "choice": choice, "shown_first": "a", "consent_train": True}
    assert (await scene.http.post("/v1/comparisons", json=vote)).status_code == 202


def preferences(room: Room, dataset_id: str) -> list[dict[str, Any]]:
    directory = room.artifacts.local_path(f"datasets/{TENANT}/{dataset_id}")
    return [row for file in sorted(directory.glob("preference/*/*")) for row in pq.read_table(file).to_pylist()]


async def test_answers_to_a_question_become_rows_that_go_with_the_prompts_owner(tmp_path: Path) -> None:
    async with open_scene(tmp_path, gateway={"offer_queries": True}) as scene:
        ports = scene.stack.ports
        owner = ports.identity.rater(TENANT, "mia")
        put_queries(ports, make_query(owner=owner))
        for rater in ("ann", "bob"):
            await answer(scene, rater)
        room = Room(tmp_path, ports.database, ports.sealer, ports.eventlog)
        room.consume()
        manifest = room.build(as_of=now())
        rows = preferences(room, manifest.dataset_id)
        assert {row["rater"] for row in rows} == {ports.identity.rater(TENANT, rater) for rater in ("ann", "bob")}
        assert {(row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in rows} == {
            ("one is this.", "one is that.")
        }
        room.erase(owner)
        room.consume()
        assert room.eraser().turn() == 1
        assert preferences(room, manifest.dataset_id) == []
        late = await scene.http.get("/v1/comparisons/query", params={"rater": "cia"})
        assert late.status_code == 404
