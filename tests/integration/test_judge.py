"""A judge beside people, all the way from chats and votes over HTTP to rows with a weight of their own."""

import asyncio
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from feedback.commands import register
from infra.clock import now
from tests.support.feedback import Room
from tests.support.scene import Scene, open_scene
from tests.support.scripted_judge import ScriptedJudge, running_judge
from tests.support.stack import TENANT
from trainer.data import read_table

PAIRS, COMPARED = 14, 10


def likes_the_later(shown: dict[str, dict[str, str]]) -> str:
    """The engine spells the place of each choice in its answer."""
    return "A" if shown["A"]["content"] > shown["B"]["content"] else "B"


async def chat_and_compare(scene: Scene, at: int) -> None:
    """Two answers to a question of its own; of the first ones two people choose the later."""
    asked = [{"role": "user", "content": f"Question {at}?"}]
    said = (await scene.chat(n=2, user="mia", metadata={"consent_train": "true"}, messages=asked)).json()
    await scene.inference(said["id"])
    for rater in ("ann", "bob") if at < COMPARED else ():
        a, b = ({"response_id": said["id"], "index": index} for index in (0, 1))
        vote = {"a": a, "b": b, "rater": rater, "choice": "b", "consent_train": True}
        assert (await scene.http.post("/v1/comparisons", json=vote)).status_code == 202


async def test_pairs_that_nobody_compared_become_rows_of_the_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaping = {"ai_shared_min": 10, "test_share": 1e-9, "gate_share": 0.0, "report_share": 0.0}
    async with open_scene(tmp_path) as scene:
        for at in range(PAIRS):
            await chat_and_compare(scene, at)
        ports = scene.stack.ports
        room = Room(tmp_path, ports.database, ports.sealer, ports.eventlog)
        room.consume()
        with running_judge(ScriptedJudge(likes_the_later)) as judge:
            settings = {"judge_url": judge.url, "judge_model": "judge-1", **shaping}
            for name, value in settings.items():
                monkeypatch.setenv(f"THUMBWHEEL_FEEDBACK__{name.upper()}", str(value))
            monkeypatch.setenv("THUMBWHEEL_HOME", str(tmp_path))
            root = typer.Typer()
            register(root)
            result = await asyncio.to_thread(CliRunner().invoke, root, ["judge", "run", "--json"])
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)
        room.consume()
        manifest = room.build(as_of=now(), **shaping)
        directory = room.artifacts.fetch(f"datasets/{TENANT}/{manifest.dataset_id}", tmp_path / "dataset")
    assert (told["votes"], told["against_people"]["shared"]) == ({"a": 0, "b": PAIRS, "tie": 0}, COMPARED)
    (figures,) = manifest.weights["models"].values()
    assert figures == told["against_people"]
    rows = read_table(directory, "preference", "train")
    by_source = {source: [row for row in rows if row["source"] == source] for source in ("human", "ai")}
    assert (len(by_source["human"]), len(by_source["ai"])) == (2 * COMPARED, PAIRS)
    weights = {round(row["weight"], 4) for row in by_source["ai"]}
    assert len(weights) == 1
    assert weights == {figures["weight"]}
