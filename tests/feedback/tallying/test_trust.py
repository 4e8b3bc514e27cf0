"""A rater counts in a rollout as in the last dataset before it, from the beginning to the end."""

from datetime import datetime, timedelta
from io import BytesIO
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import update

from feedback.datasets.influence import RATERS as COLUMNS
from feedback.datasets.snapshot import dataset_path
from feedback.tallying.trials import on_traffic
from feedback.tallying.trust import RATERS, Trust, frozen_trust
from infra.database.tables import DatasetRow
from tests.support.events import TENANT, moment
from tests.support.feedback import Room, a_days_events, a_messy_days_events
from tests.support.trials import CANARY, answered, counted, happen, make_tallier, put_rollout, told

BEFORE, REQUESTED, AFTER = moment(-3600), moment(-60), moment(3600)


def trust(room: Room) -> Trust:
    with room.database.reading() as session:
        trial = on_traffic(session)[0]
    return frozen_trust(room.database, room.artifacts, trial)


def built(room: Room, at: datetime, **events: Any) -> str:
    """A dataset of a day's events, as if it had been made then; returns where its raters' weights are."""
    happen(room, *a_days_events(**events))
    dataset_id = room.build(**events.get("settings", {})).dataset_id
    with room.database.transaction() as session:
        session.execute(update(DatasetRow).where(DatasetRow.dataset_id == dataset_id).values(created_at=at))
    return f"{dataset_path(TENANT, dataset_id)}/{RATERS}"


def factors(room: Room, path: str) -> dict[str, float]:
    with room.artifacts.open(path) as file:
        lines = pq.read_table(file).to_pylist()
    return {line["unit"]: line["factor"] for line in lines if line["segment"] is None}


def rewrite(room: Room, path: str, *lines: tuple[str, str | None, float]) -> None:
    """Other weights, in the file's own columns: (unit, segment, factor)."""
    table = pa.Table.from_pylist(
        [dict.fromkeys(COLUMNS.names) | {"unit": unit, "segment": segment, "factor": factor}
         for unit, segment, factor in lines], COLUMNS,
    )  # fmt: skip
    file = BytesIO()
    pq.write_table(table, file)
    room.artifacts.write(path, file.getvalue())


def test_without_a_dataset_everybody_counts_one(room: Room) -> None:
    assert trust(room) == Trust()
    assert trust(room).weight("rater-1", "de") == trust(room).weight(None, "") == 1.0


def test_a_rater_counts_as_the_dataset_before_the_rollout_says(room: Room) -> None:
    known = factors(room, built(room, BEFORE))
    assert len(known) == 5
    assert {rater: trust(room).weight(rater, "") for rater in known} == known


def test_a_rater_whom_the_dataset_does_not_know_counts_as_its_median_rater(room: Room) -> None:
    path = built(room, BEFORE)
    rewrite(room, path, ("rater-1", None, 0.25), ("rater-2", None, 0.5), ("rater-3", None, 2.0), ("ai:x", None, 9.0))
    assert trust(room).weight("rater-new", "") == median([0.25, 0.5, 2.0])


def test_what_is_no_rater_counts_one_whatever_the_dataset_says(room: Room) -> None:
    rewrite(room, built(room, BEFORE), ("rater-1", None, 0.25))
    assert told(room, answered("s", rater=None, session_id="s1"))["s1", CANARY, "champion"].weight == 1.0


def test_a_segment_in_which_a_raters_reliability_is_known_has_its_own_weight(room: Room) -> None:
    rewrite(room, built(room, BEFORE), ("rater-1", None, 0.5), ("rater-1", "de", 1.5))
    assert trust(room).weight("rater-1", "de") == 1.5
    assert trust(room).weight("rater-1", "fr") == trust(room).weight("rater-1", "") == 0.5


@pytest.mark.parametrize("elsewhere", [{"created_at": AFTER}, {"alias": "other"}, {"tenant": "other"}], ids=str)
def test_other_datasets_say_nothing_of_this_rollout(room: Room, elsewhere: dict[str, Any]) -> None:
    rewrite(room, built(room, BEFORE), ("rater-1", None, 0.5))
    with room.database.transaction() as session:
        session.execute(update(DatasetRow).values(**elsewhere))
    assert trust(room) == Trust()


def test_a_dataset_that_comes_during_the_rollout_changes_no_weight(room: Room) -> None:
    rewrite(room, built(room, BEFORE), ("rater-1", None, 0.5))
    counting = make_tallier(room, holder="one")
    happen(room, answered("x1"))
    counting.turn()
    happen(room, *a_messy_days_events())
    path = built(room, REQUESTED + timedelta(seconds=1), pairs=30)
    rewrite(room, path, ("rater-1", None, 2.0))
    happen(room, answered("x2", at=1))
    for process in (counting, make_tallier(room, holder="one")):
        process.turn()
        tally = counted(room)["rater-1", CANARY, "champion"]
        assert (tally.answers, tally.weight) == (2, 0.5)


def test_a_later_rollout_takes_the_newest_dataset_before_it(room: Room) -> None:
    rewrite(room, built(room, BEFORE), ("rater-1", None, 0.5))
    happen(room, *a_messy_days_events())
    rewrite(room, built(room, AFTER, pairs=30), ("rater-1", None, 2.0))
    put_rollout(room, requested_at=AFTER + timedelta(seconds=1))
    assert trust(room).weight("rater-1", "") == 2.0


def test_weights_that_an_erasure_took_leave_the_dataset_before_them(room: Room) -> None:
    rewrite(room, built(room, BEFORE), ("rater-1", None, 0.5))
    happen(room, *a_messy_days_events())
    taken = built(room, BEFORE + timedelta(seconds=1), pairs=30)
    rewrite(room, taken, ("rater-1", None, 2.0))
    assert trust(room).weight("rater-1", "") == 2.0
    room.artifacts.delete([taken])
    assert trust(room).weight("rater-1", "") == 0.5
