"""Days are UTC's, buckets a person's for ever."""

from datetime import date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.cells import BUCKETS, Cell, bucket_of, start_of_day


def test_a_moment_belongs_to_its_day_in_utc() -> None:
    late = datetime(2026, 3, 10, 23, 30, tzinfo=timezone(timedelta(hours=-5)))
    assert Cell.of(late, 3).day == date(2026, 3, 11)
    assert start_of_day(late) == Cell.of(late, 3).start


@given(st.dates(date(2000, 1, 1), date(2100, 1, 1)), st.integers(0, BUCKETS - 1))
def test_a_cells_name_says_which_it_is(day: date, bucket: int) -> None:
    cell = Cell(day, bucket)
    assert Cell.parse(str(cell)) == cell
    assert cell.end - cell.start == timedelta(days=1)


@pytest.mark.parametrize(("owner", "bucket"), [("rater-1", 3), ("rater-2", 5)])
def test_buckets_never_change(owner: str, bucket: int) -> None:
    """They are stored with every event."""
    assert bucket_of(owner) == bucket
