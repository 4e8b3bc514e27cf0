"""A model's votes in a dataset: labelled, weighed by themselves, and never in the way of people's."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from feedback.datasets.split import RATER_SALT, fraction
from infra.contracts.events import Source
from infra.contracts.manifests import DatasetManifest
from tests.support.events import TENANT, make_comparison, moment
from tests.support.feedback import Event, Room
from tests.support.judging import chats, judge_rater, run_judge, settings_for, votes
from tests.support.scripted_judge import ScriptedJudge, running_judge
from trainer.data import preferences, read_table

FIRST = {"ai_shared_min": 10}


def rows(room: Room, manifest: DatasetManifest, table: str, split: str = "train") -> list[dict[str, Any]]:
    """As training reads them, weights and all."""
    return read_table(fetched(room, manifest), table, split)


def fetched(room: Room, manifest: DatasetManifest) -> Path:
    return room.artifacts.fetch(f"datasets/{TENANT}/{manifest.dataset_id}", room.home / f"of {manifest.dataset_id}")


def judged(room: Room, **shaping: Any) -> tuple[DatasetManifest, str]:
    """A dataset after the judge has voted, and the judge's unit."""
    with running_judge(ScriptedJudge()) as judge:
        run_judge(room, judge, **shaping)
        return room.build(**shaping), f"ai:{judge_rater(settings_for(judge))}"


def test_its_rows_say_ai_and_weigh_what_its_agreement_shows(room: Room) -> None:
    room.append([*chats(60), *votes(40)])
    room.consume()
    manifest, unit = judged(room, **FIRST)
    told = manifest.weights["models"][unit]
    assert (told["shared"], told["agreement"], told["weight"]) == (40, 1.0, 1.0)
    found = [row for row in rows(room, manifest, "preference") if row["source"] == "ai"]
    assert len(found) == 60
    assert {row["unit"] for row in found} == {unit}
    assert {round(row["weight"], 6) for row in found} == {1.0}
    people = [row for row in rows(room, manifest, "preference") if row["source"] == "human"]
    assert len(people) == 120
    assert {pair.rater for pair in preferences(found)} == {""}


def test_without_people_to_be_told_by_its_rows_weigh_nothing_and_the_manifest_says_why(room: Room) -> None:
    room.append([*chats(30), *votes(5)])
    room.consume()
    manifest, unit = judged(room)
    assert manifest.weights["models"][unit]["reason"].startswith("people decided only 5")
    assert {row["source"] for row in rows(room, manifest, "preference")} == {"human"}
    assert manifest.counts["preference"]["train"] == 15 + 30


def test_a_judge_that_disagrees_with_people_weighs_nothing(room: Room) -> None:
    room.append([*chats(40), *votes(40, wrong=range(0, 40, 2))])
    room.consume()
    manifest, unit = judged(room, **FIRST)
    assert manifest.weights["models"][unit]["agreement"] == 0.5
    assert {row["source"] for row in rows(room, manifest, "preference")} == {"human"}


def test_a_models_vote_under_a_persons_name_is_not_taken_for_the_persons(room: Room) -> None:
    same = {"rater": "ann", "occurred_at": moment(9000)}
    forged = Event(make_comparison("r0a", "r0b", "a"), "forged", {**same, "source": Source.AI})
    room.append([*chats(1), *votes(1, raters=["ann"]), forged])
    room.consume()
    manifest = room.build()
    stored = pq.read_table(fetched(room, manifest) / "weights" / "raters.parquet").to_pylist()
    assert {row["unit"]: row["factor"] for row in stored} == {"ann": pytest.approx(1.0, abs=0.1), "ai:ann": 0.0}
    (row,) = rows(room, manifest, "preference")
    assert (row["source"], row["rater"]) == ("human", "ann")


def test_what_held_out_people_judged_stays_theirs(room: Room) -> None:
    """Without this rule each pair that a model judged too would leave the test rows as a leak."""
    held_out = next(name for n in range(100) if fraction(RATER_SALT, name := f"rater-{n}") < 0.2)
    trained = next(name for n in range(100) if fraction(RATER_SALT, name := f"rater-{n}") >= 0.2)
    apart = [*votes(10, raters=[held_out]), *votes(20, raters=[trained])[10:]]
    room.append([*chats(30), *apart])
    room.consume()
    manifest, _ = judged(room, test_share=0.2, **FIRST)
    assert manifest.counts["preference"] == {"test": 10, "train": 10 + 20}
    assert manifest.filtered == {"yields_to_people": 10}
    assert {row["source"] for row in rows(room, manifest, "preference", "test")} == {"human"}


def test_the_judges_votes_go_with_whoever_is_erased_under_its_name(room: Room) -> None:
    room.append([*chats(20), *votes(20)])
    room.consume()
    manifest, unit = judged(room, **FIRST)
    room.erase(unit.removeprefix("ai:"))
    room.consume()
    assert room.eraser().turn() == 1
    assert not room.artifacts.exists(f"datasets/{TENANT}/{manifest.dataset_id}/weights/raters.parquet")
    assert room.build(**FIRST).weights["models"] == {}
