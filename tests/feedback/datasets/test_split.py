"""What is held out stays held out, and nothing of it leaks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.datasets.split import PROMPT_SALT, RATER_SALT, fraction, rater_group


@given(st.text())
def test_fractions_lie_between_nought_and_one(unit: str) -> None:
    assert 0 <= fraction("salt", unit) < 1


def test_fractions_spread_evenly() -> None:
    below = [fraction(PROMPT_SALT, f"prompt-{n}") < 0.3 for n in range(5000)]
    assert sum(below) / 5000 == pytest.approx(0.3, abs=0.02)


def test_the_salted_hashes_never_change() -> None:
    assert fraction(RATER_SALT, "rater-1") == pytest.approx(0.457139, abs=1e-6)
    assert fraction(PROMPT_SALT, "prompt-1") == pytest.approx(0.548217, abs=1e-6)
    assert rater_group("rater-1") == "g1"


def test_rater_groups_are_few_and_all_used() -> None:
    assert len({rater_group(f"rater-{n}") for n in range(200)}) == 8
