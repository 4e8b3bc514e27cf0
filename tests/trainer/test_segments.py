"""Every segment is measured by itself, and small ones together as well."""

from collections.abc import Sequence

from infra.contracts.manifests import SegmentResult
from trainer.intervals import share_interval
from trainer.segments import POOL, UNNAMED, by_segment


def measure(segments: Sequence[str], units: Sequence[str] = (), *, least: int = 3) -> dict[str, SegmentResult]:
    """The share of rows in a segment whose name begins with g."""
    named = units or [str(place) for place in range(len(segments))]
    values = [float(name.startswith("g")) for name in segments]
    return by_segment(segments, named, lambda rows: share_interval([values[row] for row in rows]), least=least)


def value(found: SegmentResult) -> float | None:
    return found.interval.value if found.interval else None


def test_each_segment_is_measured_by_itself() -> None:
    found = measure(["good", "bad"] * 3)
    assert {name: (value(one), one.enough) for name, one in found.items()} == {"good": (1.0, True), "bad": (0.0, True)}


def test_segments_of_too_few_are_also_measured_together() -> None:
    found = measure(["good"] * 2 + ["bad"] * 2 + ["great"] * 5)
    assert found.keys() == {"good", "bad", "great", POOL}
    assert (value(found[POOL]), found[POOL].enough) == (0.5, True)
    assert not found["bad"].enough


def test_a_single_small_segment_is_its_own_pool() -> None:
    assert measure(["good"] * 2 + ["great"] * 5).keys() == {"good", "great"}


def test_units_count_and_not_rows() -> None:
    assert not measure(["good"] * 6, ["mia", "tom"] * 3)["good"].enough


def test_rows_without_a_segment_are_one_where_others_have_one() -> None:
    assert measure(["", "", "", "good", "good", "good"]).keys() == {UNNAMED, "good"}


def test_where_nobody_names_a_segment_there_is_none() -> None:
    assert measure(["", "", ""]) == {}


def test_a_segment_of_one_row_is_too_few_to_measure() -> None:
    assert measure(["good", "great", "great", "great"])["good"] == SegmentResult(interval=None, enough=False)
