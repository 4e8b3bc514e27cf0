"""The guard over made-up series: what it stops, what it lets go on, and which state it keeps."""

import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.settings import TrainerSettings
from trainer.guard import WINDOW, Cause, Guard, Verdict
from trainer.observation import Gain, Observation

SE = 0.1


def make_guard(**wanted: Any) -> Guard:
    return Guard(TrainerSettings.model_validate(wanted))


def seen(gain: float | None = None, *, kl: float = 1.0, length: float = 10, **rates: float) -> Observation:
    return Observation(kl, length, rates, None if gain is None else Gain(gain, SE))


def watch(guard: Guard, observations: Iterable[Observation]) -> tuple[int | None, list[Verdict]]:
    """At which step it stops, and all it said until then."""
    said = []
    for step, observation in enumerate(observations):
        said.append(guard.observe(step, observation))
        if said[-1].stop:
            return step, said
    return None, said


def noisy(gains: Sequence[float], seed: int) -> list[Observation]:
    rng = random.Random(seed)
    return [seen(rng.gauss(gain, SE)) for gain in gains]


def share_stopped(gains: Sequence[float], **wanted: Any) -> float:
    return sum(watch(make_guard(**wanted), noisy(gains, seed))[0] is not None for seed in range(200)) / 200


def rise_and_fall(turn: int, after: int, slope: float) -> list[float]:
    return [slope * step for step in range(turn)] + [slope * (turn - step) for step in range(after)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=60))
def test_a_held_out_reward_that_never_falls_is_never_stopped(rises: list[int]) -> None:
    gains = [sum(rises[: step + 1]) for step in range(len(rises))]
    guard = make_guard()
    stopped, said = watch(guard, [seen(gain, kl=0.0) for gain in gains])
    assert stopped is None
    assert all(verdict.best for verdict in said)
    assert guard.still_gaining


@settings(deadline=None)
@given(st.integers(WINDOW, 40), st.integers(1, 8))
def test_a_clear_turn_stops_soon_and_a_step_near_it_is_kept(turn: int, patience: int) -> None:
    guard = make_guard(policy_guard_patience=patience)
    stopped, said = watch(guard, [seen(gain) for gain in rise_and_fall(turn, 60, SE)])
    assert said[-1].stop is Cause.TURN
    assert stopped is not None
    assert turn <= guard.best_step <= turn + WINDOW // 2  # a mean of the last steps lags by half of them
    assert stopped - guard.best_step <= WINDOW + patience
    assert not guard.still_gaining


def test_a_sudden_fall_stops_after_patience_and_keeps_what_was_before_it() -> None:
    guard = make_guard(policy_guard_patience=3)
    stopped, said = watch(guard, [seen(gain) for gain in [1.0] * 20 + [-5.0] * 10])
    assert (stopped, guard.best_step) == (22, 19)
    assert "the policy that step 19 began with is kept" in said[-1].reason
    assert "was 0.95 and is -1.30" in said[-1].reason


def test_a_fall_that_is_made_good_again_stops_nothing() -> None:
    assert watch(make_guard(), [seen(gain) for gain in [1.0] * 12 + [0.4] * 2 + [2.0] * 20])[0] is None


def test_a_turn_within_the_noise_is_found_within_a_few_windows() -> None:
    """It rises and falls by a tenth of one step's noise a step."""
    found = [watch(make_guard(), noisy(rise_and_fall(40, 80, SE / 10), seed))[0] for seed in range(100)]
    late = sorted(step if step is not None else 120 for step in found)
    assert late[50] <= 40 + 3 * WINDOW
    assert late[95] <= 40 + 6 * WINDOW


def test_noise_alone_rarely_stops_a_training_that_gains() -> None:
    """By a tenth of one step's noise a step, over 200 steps."""
    assert share_stopped([step * SE / 10 for step in range(200)]) <= 0.01


def test_noise_alone_stops_one_that_stands_still_in_fewer_than_one_of_six_default_trainings() -> None:
    """Nothing is lost by such a stop: what is kept is as good as what would have come."""
    assert share_stopped([0.0] * TrainerSettings().policy_steps) < 1 / 6


def test_a_higher_z_stops_less_often() -> None:
    shares = [share_stopped([0.0] * 100, policy_guard_z=z) for z in (1.5, 2.5, 3.5)]
    assert shares[0] > shares[1] > shares[2]


def test_a_gain_that_is_not_worth_its_kl_is_no_gain() -> None:
    far = [seen(0.02 * step, kl=float(step)) for step in range(40)]
    dear, free = make_guard(policy_guard_kl_price=0.1, policy_kl_budget=0), make_guard(policy_guard_kl_price=0)
    assert watch(dear, far)[1][-1].stop is Cause.TURN
    assert dear.best_step == 0
    assert watch(free, far[:10])[0] is None
    assert free.best_step == 9


def test_a_guard_that_is_off_never_stops_a_turn() -> None:
    assert watch(make_guard(policy_guard=False), [seen(gain) for gain in rise_and_fall(10, 50, 1.0)])[0] is None


def test_the_kl_budget_stops_at_once_and_keeps_the_last_state_within_it() -> None:
    guard = make_guard(policy_kl_budget=5.0)
    stopped, said = watch(guard, [seen(kl=kl) for kl in (0.0, 2.0, 4.9, 5.1, 3.0)])
    assert (stopped, said[-1].stop, guard.best_step) == (3, Cause.KL, 2)
    assert "5.10 nats per answer" in said[-1].reason
    assert not said[-1].best


def test_beyond_the_budget_the_best_held_out_state_is_kept_not_the_last() -> None:
    guard = make_guard(policy_kl_budget=5.0)
    series = [seen(1.0)] * WINDOW + [seen(0.9), seen(0.9), seen(2.0, kl=6.0)]
    assert watch(guard, series)[1][-1].stop is Cause.KL
    assert guard.best_step == WINDOW - 1


def test_without_a_budget_no_kl_is_too_much() -> None:
    assert watch(make_guard(policy_kl_budget=0), [seen(kl=1e6)] * 20)[0] is None


def test_without_a_held_out_reward_the_last_state_is_the_one_to_keep() -> None:
    guard = make_guard()
    assert all(verdict.best for verdict in watch(guard, [seen()] * 30)[1])
    assert (guard.best_step, guard.still_gaining) == (29, True)


def test_a_manner_that_drifts_is_a_warning() -> None:
    drifting = [seen(hedge=0.1)] * 4 + [seen(hedge=0.9)] * 4
    stopped, said = watch(make_guard(), drifting)
    assert stopped is None
    assert said[-1].warnings == {"hedge": "hedge went from 10% to 90% of answers"}
    assert said[3].warnings == {}


def test_a_manner_that_drifts_stops_where_that_is_set() -> None:
    drifting = [seen(hedge=0.1)] * 4 + [seen(hedge=0.9)] * 4
    stopped, said = watch(make_guard(policy_guard_probes="stop"), drifting)
    assert said[-1].stop is Cause.PROBE
    assert stopped == 6  # three of the last four steps: a mean of 0.7
    assert "hedge" in said[-1].reason


def test_one_odd_step_is_no_drift() -> None:
    series = [seen(hedge=0.0)] * 5 + [seen(hedge=1.0), seen(hedge=0.0)]
    assert not any(verdict.warnings for verdict in watch(make_guard(), series)[1])


@pytest.mark.parametrize("length", [4.0, 25.0])
def test_answers_that_halve_or_double_are_a_warning(length: float) -> None:
    _, said = watch(make_guard(), [seen(length=10.0)] * 4 + [seen(length=length)] * 4)
    assert said[-1].warnings == {"length": f"answers went from 10 to {length:.0f} tokens"}


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 1)), min_size=1, max_size=40), st.integers(0, 40))
def test_a_guard_rebuilt_from_the_history_goes_on_as_if_never_gone(series: list[tuple[float, float]], cut: int) -> None:
    observations = [seen(gain, hedge=rate) for gain, rate in series]
    live = make_guard()
    said = [live.observe(step, one) for step, one in enumerate(observations)]
    again = Guard.replayed(TrainerSettings(), [one.metrics() for one in observations[:cut]])
    assert [again.observe(step, one) for step, one in list(enumerate(observations))[cut:]] == said[cut:]
    assert again.best_step == live.best_step
    assert again.metrics() == live.metrics()
