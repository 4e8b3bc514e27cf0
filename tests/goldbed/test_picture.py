"""Curves as SVG."""

from xml.etree import ElementTree

import pytest

from tests.goldbed.picture import Curve, Frame, Mark, draw, ticks

CURVE = Curve("gold & silver", "#123456", [(0, 0.0), (10, 2.0), (20, -1.0)])


def test_a_picture_is_well_formed_with_a_line_for_each_curve_and_mark() -> None:
    found = ElementTree.fromstring(draw("Title", "step", "gain", [CURVE, CURVE], [Mark("stop", "#000", 12)]))
    assert len(found.findall("{*}polyline")) == 2
    assert any("stroke-dasharray" in path.attrib for path in found.findall("{*}path"))
    assert [text.text for text in found.findall("{*}text")].count("gold & silver") == 2


def test_higher_values_stand_higher_and_all_within_the_page() -> None:
    frame = Frame.around([CURVE])
    assert frame.y(2.0) < frame.y(0.0) < frame.y(-1.0)
    assert frame.y(2.0) > 0 and frame.y(-1.0) < 360
    assert frame.x(0) < frame.x(20) <= 640


@pytest.mark.parametrize(("low", "high"), [(0, 70), (-1.3, 0.9), (0.01, 0.09), (-300, 900)])
def test_ticks_are_a_few_round_numbers_within(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 3 <= len(found) <= 8
    assert all(low <= at <= high for at in found)


def test_a_flat_curve_is_drawn_too() -> None:
    ElementTree.fromstring(draw("Flat", "step", "gain", [Curve("flat", "#123456", [(0, 1.0), (1, 1.0)])]))
