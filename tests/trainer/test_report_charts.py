"""A chart shows each figure's course to scale, in the order of its steps, with gaps where nothing was measured."""

import math
import re
from xml.etree import ElementTree

import pytest

from tests.support.reports import make_lines
from trainer.report_charts import HEIGHT, MARGIN, MOST_POINTS, WIDTH, Curve, curves, svg

LEFT, RIGHT, TOP, BOTTOM = MARGIN, WIDTH - MARGIN, MARGIN, HEIGHT - MARGIN


def drawn(curve: Curve) -> list[list[tuple[float, float]]]:
    """The lines of the picture, as points; each ends with its last point once more."""
    [path] = ElementTree.fromstring(svg(curve))
    runs = path.attrib["d"].split("M")[1:]
    return [[(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", run)] for run in runs]


def make_curve(*values: float | None, first: int = 1) -> Curve:
    return Curve("loss", list(range(first, first + len(values))), list(values))


def test_a_line_goes_from_the_first_step_to_the_last_and_uses_the_whole_height() -> None:
    assert drawn(make_curve(2.0, 0.0, 1.0)) == [
        [(LEFT, TOP), (WIDTH / 2, BOTTOM), (RIGHT, HEIGHT / 2), (RIGHT, HEIGHT / 2)]
    ]


def test_steps_that_were_left_out_keep_their_room() -> None:
    [[_, (x, _), *_]] = drawn(Curve("loss", [1, 2, 5], [1.0, 2.0, 3.0]))
    assert x == LEFT + (RIGHT - LEFT) / 4


def test_where_nothing_was_a_number_there_is_a_gap() -> None:
    before, after = drawn(make_curve(1.0, 2.0, None, 3.0, 4.0))
    assert (len(before), len(after)) == (3, 3)


@pytest.mark.parametrize("values", [(1.0,), (1.0, 1.0, 1.0), (None, 1.0, None)])
def test_a_figure_that_never_changes_and_a_lone_step_can_be_drawn(values: tuple[float | None, ...]) -> None:
    points = [point for run in drawn(make_curve(*values)) for point in run]
    assert len(points) >= 2
    assert all(LEFT <= x <= RIGHT and y == BOTTOM for x, y in points)


def test_who_cannot_see_it_is_told_the_same() -> None:
    label = ElementTree.fromstring(svg(make_curve(2.0, 0.5, 1.0))).attrib["aria-label"]
    assert label == "loss: 2 to 1, between 0.5 and 2"


def test_a_name_cannot_become_markup() -> None:
    assert "<b>" not in svg(Curve("<b>", [1], [1.0]))


def test_each_figure_has_a_curve_but_what_is_no_figure_of_learning() -> None:
    lines = [*make_lines(loss=1.0, reward=2.0), {"step": 6, "objective/kl": 0.5, "time/sampling": 3.0, "nan": None}]
    found = curves(lines)
    assert [curve.name for curve in found] == ["loss", "reward", "objective/kl"]
    assert found[2].steps == [6]


def test_a_long_training_is_thinned_to_means_without_losing_its_level() -> None:
    lines = make_lines(10 * MOST_POINTS + 1, loss=1.0)
    [curve] = curves(lines)
    assert len(curve.steps) == len(curve.values) <= MOST_POINTS
    assert curve.steps[0] == 1
    assert math.isclose(curve.known[0], sum(range(1, 12)) / 11)


def test_a_figure_that_stayed_at_zero_has_no_curve() -> None:
    assert [curve.name for curve in curves(make_lines(loss=1.0, clipped=0.0))] == ["loss"]


def test_steps_without_a_number_do_not_pull_a_mean_down() -> None:
    lines = [{"step": step, "loss": None if step % 2 else 4.0} for step in range(1, 2 * MOST_POINTS + 1)]
    [curve] = curves(lines)
    assert set(curve.values) == {4.0}
