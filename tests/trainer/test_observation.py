"""What the guard is told of a step."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.observation import Gain, Observation, gain_over_start

SCORES = st.floats(-5, 5, allow_nan=False)
GROUPS = st.lists(st.lists(SCORES, min_size=3, max_size=3), min_size=2, max_size=6)


def test_the_gain_is_the_mean_over_prompts_with_their_standard_error() -> None:
    found = gain_over_start([[1.0, 3.0], [0.0, 0.0], [5.0, 3.0]], [1.0, -1.0, 1.0])  # gains of 1, 1 and 3
    assert found is not None
    assert found.value == pytest.approx(5 / 3)
    assert found.se == pytest.approx(math.sqrt(4 / 3) / math.sqrt(3))


@settings(deadline=None)
@given(GROUPS, st.lists(SCORES, min_size=6, max_size=6))
def test_what_a_prompt_adds_to_all_its_answers_does_not_count(groups: list[list[float]], added: list[float]) -> None:
    starts = [group[0] for group in groups]
    moved = [[score + more for score in group] for group, more in zip(groups, added, strict=False)]
    moved_starts = [start + more for start, more in zip(starts, added, strict=False)]
    before, after = gain_over_start(groups, starts), gain_over_start(moved, moved_starts)
    assert before is not None and after is not None
    assert after.value == pytest.approx(before.value, abs=1e-9)
    assert after.se == pytest.approx(before.se, abs=1e-9)


def test_many_answers_to_one_prompt_are_one_unit() -> None:
    assert gain_over_start([[1.0] * 50], [0.0]) is None


def test_an_observation_is_read_back_from_the_history() -> None:
    seen = Observation(1.5, 12.0, {"hedge": 0.25, "refusal": 0.0}, held_out=Gain(-0.5, 0.1))
    assert Observation.read({"loss": 3.0, **seen.metrics()}) == seen


def test_an_observation_without_a_held_out_reward_is_read_back_too() -> None:
    seen = Observation(1.5, 12.0, {"hedge": 0.25})
    assert Observation.read(seen.metrics()) == seen
