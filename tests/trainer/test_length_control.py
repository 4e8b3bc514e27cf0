"""What an answer wins by being longer is taken off; what it wins otherwise stays."""

import math
import random

import pytest

from trainer.evaluate import win_rate
from trainer.length_control import controlled_win_rate, fit_slope, make_pairs

Grouped = list[list[float]]
PRICE = 2.0  # log-odds of this judge per unit of log length


def contest(
    *, longer: float, better: float, prompts: int = 150, samples: int = 2, price: float = PRICE
) -> tuple[tuple[Grouped, Grouped], tuple[Grouped, Grouped]]:
    """A judge that likes length; the candidate's answers are `longer` times the champion's and `better` by so much."""
    rng = random.Random(7)

    def answers(times: float, merit: float) -> tuple[Grouped, Grouped]:
        lengths = [[times * rng.lognormvariate(3, 0.4) for _ in range(samples)] for _ in range(prompts)]
        scores = [[price * math.log(1 + length) + merit + rng.gauss(0, 0.5) for length in group] for group in lengths]
        return scores, lengths

    mine, theirs = answers(longer, better), answers(1.0, 0.0)
    return (mine[0], theirs[0]), (mine[1], theirs[1])


def test_answers_that_are_longer_and_no_better_win_nothing_at_equal_lengths() -> None:
    scores, lengths = contest(longer=1.6, better=0.0)
    raw, found = win_rate(*scores), controlled_win_rate(make_pairs(scores, lengths))
    assert raw is not None and found is not None
    assert raw.lo > 0.7
    assert found.lo < 0.5 < found.hi < raw.lo


def test_answers_that_are_better_at_the_same_length_keep_their_win_rate() -> None:
    scores, lengths = contest(longer=1.0, better=1.0)
    found = controlled_win_rate(make_pairs(scores, lengths))
    assert found is not None
    assert found.lo > 0.7


def test_shorter_answers_that_a_judge_of_length_finds_worse_may_be_as_good() -> None:
    scores, lengths = contest(longer=0.6, better=0.0)
    raw, found = win_rate(*scores), controlled_win_rate(make_pairs(scores, lengths))
    assert raw is not None and found is not None
    assert raw.hi < 0.35
    assert found.lo < 0.5 < found.hi


def test_the_slope_is_the_judge_s_price_of_length() -> None:
    slope, error = fit_slope(make_pairs(*contest(longer=1.2, better=0.3)))
    assert slope == pytest.approx(PRICE, abs=4 * error)
    assert 0 < error < 0.2


def test_lengths_that_never_vary_change_nothing() -> None:
    scores = [[0.3], [0.1], [-0.2], [0.4]], [[0.0], [0.2], [0.0], [0.1]]
    same: tuple[Grouped, Grouped] = ([[5.0]] * 4, [[5.0]] * 4)
    assert controlled_win_rate(make_pairs(scores, same)) == win_rate(*scores)


def test_a_slope_that_hardly_anything_is_known_of_widens_the_interval() -> None:
    """The candidate's answers are all about twice as long: what length is worth can't be told from what they are."""
    rng = random.Random(3)
    scores = [[rng.gauss(1, 1)] for _ in range(60)], [[rng.gauss(0, 1)] for _ in range(60)]
    lengths = [[20 + rng.random()] for _ in range(60)], [[10 + rng.random()] for _ in range(60)]
    raw, found = win_rate(*scores), controlled_win_rate(make_pairs(scores, lengths))
    assert raw is not None and found is not None
    assert found.hi - found.lo > 2 * (raw.hi - raw.lo)


def test_a_prompt_that_one_side_left_out_counts_for_neither() -> None:
    pairs = make_pairs(([[1.0], [], [2.0]], [[0.0], [1.0], [0.0]]), ([[3.0], [], [4.0]], [[3.0], [2.0], [4.0]]))
    assert pairs.prompts == 2
    assert pairs.win_rates(0.0) == [1.0, 1.0]


def test_nothing_answered_is_nothing_measured() -> None:
    assert controlled_win_rate(make_pairs(([], []), ([], []))) is None
