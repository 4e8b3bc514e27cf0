"""Throughput is that of the last while."""

import pytest

from feedback.rate import Rate


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_events_count_for_as_long_as_the_window() -> None:
    clock = Clock()
    rate = Rate(window_s=10, clock=clock)
    clock.at += 5
    rate.add(100)
    assert rate.per_second() == pytest.approx(20)  # five seconds old: no longer window yet
    clock.at += 9
    assert rate.per_second() == pytest.approx(10)
    clock.at += 2
    assert rate.per_second() == 0


def test_the_first_moment_has_no_rate() -> None:
    assert Rate(clock=Clock()).per_second() == 0
