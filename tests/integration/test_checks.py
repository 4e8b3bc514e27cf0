"""From planting to weights: a product shows checks, raters answer them, and the next dataset knows whom to trust."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from infra.clock import now
from tests.support.checks import GOOD, question_body
from tests.support.feedback import Room
from tests.support.scene import Scene, open_scene
from tests.support.stack import TENANT

CHECKS = 10


async def vote(scene: Scene, rater: str, pair: dict[str, Any], choice: str) -> None:
    """As a product sends it, whether it was a check or not."""
    a, b = ({name: pair[side][name] for name in ("response_id", "index")} for side in "ab")
    cast = {"a": a, "b": b, "rater": rater, "choice": choice, "consent_train": True}
    assert (await scene.http.post("/v1/comparisons", json=cast)).status_code == 202


async def answer_all(scene: Scene, rater: str, *, right: bool) -> list[str]:
    """Until there is no check left; returns what was asked."""
    asked, had = list[str](), list[str]()
    while True:
        answer = await scene.http.get("/v1/comparisons/check", params={"rater": rater, "had": had})
        if answer.status_code == 404:
            return asked
        pair = answer.json()
        good = "a" if pair["a"]["message"]["content"] == GOOD else "b"
        await vote(scene, rater, pair, good if right else {"a": "b", "b": "a"}[good])
        asked.append(pair["messages"][0]["content"])
        had.append(pair["a"]["response_id"])


async def compare_a_chat(scene: Scene, rater: str) -> None:
    consent = {"consent_train": "true"}
    said = (await scene.chat(n=2, user=rater, metadata=consent)).json()
    pair = {side: {"response_id": said["id"], "index": at} for at, side in enumerate("ab")}
    await vote(scene, rater, pair, "a")
    await scene.inference(said["id"])


async def test_a_rater_who_always_errs_on_planted_checks_is_trusted_less_in_the_next_dataset(tmp_path: Path) -> None:
    prompts = {f"Check number {at}?" for at in range(CHECKS)}
    async with open_scene(tmp_path) as scene:
        for prompt in prompts:
            assert (await scene.admin("POST", "/checks", question_body(prompt))).status_code == 201
        assert set(await answer_all(scene, "ann", right=True)) == prompts
        assert set(await answer_all(scene, "bob", right=False)) == prompts
        for rater in ("ann", "bob"):
            await compare_a_chat(scene, rater)
        ports = scene.stack.ports
        room = Room(tmp_path, ports.database, ports.sealer, ports.eventlog)
        room.consume()
        manifest = room.build(as_of=now())
        ann, bob = (ports.identity.rater(TENANT, rater) for rater in ("ann", "bob"))
    assert manifest.filtered["check_question"] == 2 * CHECKS
    directory = tmp_path / "artifacts" / "datasets" / TENANT / manifest.dataset_id
    lines = {line["unit"]: line for line in pq.read_table(directory / "weights" / "raters.parquet").to_pylist()}
    assert lines[bob]["reliability"] < 0.4 < 0.8 < lines[ann]["reliability"]
    assert lines[bob]["factor"] < lines[ann]["factor"]
    rows = "".join(str(pq.read_table(file).to_pylist()) for file in directory.rglob("*.parquet"))
    assert "Check number" not in rows
    assert GOOD not in rows
    assert "What does math.cos do?" in rows
