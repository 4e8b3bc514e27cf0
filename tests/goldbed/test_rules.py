"""Stopping rules over made-up trajectories."""

from collections.abc import Sequence

import pytest

from infra.settings import TrainerSettings
from tests.goldbed.rules import (
    after_steps,
    best_of,
    guard_stop,
    kept_gain,
    left_out,
    peak_gain,
    smooth,
    within_kl,
)
from tests.goldbed.trajectory import Look, Trajectory


def make_trajectory(
    golds: Sequence[float], held_out: Sequence[float] = (), seed: int = 0, kl: float = 0.5
) -> Trajectory:
    """A look every fourth step; KL grows by `kl` a step."""
    looks = [Look(4 * index, gold, 2 * index) for index, gold in enumerate(golds)]
    steps = 4 * (len(golds) - 1)
    held_out = held_out or [0.0] * steps
    history = [
        {"objective/kl": kl * step, "completions/mean_length": 8.0, "guard/held_out": held_out[step],
         "guard/held_out_se": 0.02, "proxy_gain": 0.01 * step}
        for step in range(steps)
    ]  # fmt: skip
    return Trajectory(seed, looks, history)


RISE_AND_FALL = [0.0, 1.0, 2.0, 3.0, 2.0, 1.0, 0.0, -1.0, -2.0, -3.0]


def test_gold_between_two_looks_lies_on_the_straight_line() -> None:
    assert [make_trajectory(RISE_AND_FALL).gold_at(step) for step in (0, 2, 4, 13, 99)] == [0.0, 0.5, 1.0, 2.75, -3.0]


def test_a_fixed_number_of_steps_keeps_what_was_there_then() -> None:
    assert (
        kept_gain(make_trajectory(RISE_AND_FALL), after_steps(12)) == peak_gain(make_trajectory(RISE_AND_FALL)) == 3.0
    )


def test_a_fixed_kl_keeps_the_last_state_within_it() -> None:
    assert within_kl(6.0)(make_trajectory(RISE_AND_FALL)) == 12
    assert within_kl(1e9)(make_trajectory(RISE_AND_FALL)) == 35


def test_the_number_of_a_fixed_rule_comes_from_the_other_seeds() -> None:
    early, late = [0.0, 3.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 3.0, 0.0, 0.0]
    trajectories = [make_trajectory(early, seed=0), make_trajectory(late, seed=1), make_trajectory(late, seed=2)]
    rules = [after_steps(count) for count in range(21)]
    assert [rule(trajectories[0]) for rule in left_out(trajectories, rules)] == [12, 4, 4]


def test_the_best_rule_is_best_on_average() -> None:
    found = best_of([after_steps(4), after_steps(12)], [make_trajectory(RISE_AND_FALL)])
    assert found(make_trajectory(RISE_AND_FALL)) == 12


def test_the_guard_keeps_what_the_held_out_reward_likes_best() -> None:
    held_out = [0.1 * step for step in range(12)] + [1.2 - 0.2 * step for step in range(24)]
    kept, stopped = guard_stop(make_trajectory(RISE_AND_FALL, held_out, kl=0.0), TrainerSettings())
    assert 10 <= kept <= 16
    assert kept < stopped < 36


def test_smoothing_leaves_the_start_alone_and_a_lucky_look_without_its_luck() -> None:
    smoothed = smooth(make_trajectory([0.0, 1.0, 4.0, 1.0, 1.0]))
    assert [look.gold for look in smoothed.looks] == pytest.approx([0.0, 5 / 3, 2.0, 2.0, 1.0])


def test_a_trajectory_is_read_back_from_json() -> None:
    found = make_trajectory(RISE_AND_FALL)
    assert Trajectory.from_json(found.as_json()) == found
