"""Simulated raters: each is right with a probability of its own, on questions that several of them answer."""

from dataclasses import dataclass

import numpy as np

from feedback.weighing.opinions import Bools, Floats, Opinions


@dataclass(frozen=True)
class Crowd:
    """What was said, and what is true."""

    opinions: Opinions
    p_R: Floats
    truth_I: Bools


def make_crowd(
    *,
    raters: int = 60,
    items: int = 1500,
    each: int = 3,
    careless: float = 0.0,
    adversarial: float = 0.0,
    seed: int = 0,
) -> Crowd:
    """Careless raters toss a coin, adversarial ones are right one time in five, the others three to 19 times in 20."""
    rng = np.random.default_rng(seed)
    p_R = rng.uniform(0.65, 0.95, raters)
    kinds = np.array([0.5] * round(careless * raters) + [0.2] * round(adversarial * raters))
    p_R[: len(kinds)] = kinds
    truth_I = rng.random(items) < 0.5
    rater_N = np.concatenate([rng.choice(raters, each, replace=False) for _ in range(items)])
    item_N = np.repeat(np.arange(items), each)
    right_N = rng.random(len(rater_N)) < p_R[rater_N]
    yes_N = np.where(right_N, truth_I[item_N], ~truth_I[item_N])
    opinions = make_opinions(rater_N, item_N, yes_N, raters=raters, items=items)
    return Crowd(opinions, p_R, truth_I)


def make_opinions(
    rater_N: object, item_N: object, yes_N: object, *, raters: int | None = None, items: int | None = None,
    segment_N: object = None, segments: int = 1,
) -> Opinions:  # fmt: skip
    """No question's answer is known beforehand."""
    who, what = np.asarray(rater_N, dtype=np.int64), np.asarray(item_N, dtype=np.int64)
    where = np.zeros(len(who), dtype=np.int64) if segment_N is None else np.asarray(segment_N, dtype=np.int64)
    truth_I = np.full(int(what.max(initial=-1)) + 1 if items is None else items, np.nan)
    count = int(who.max(initial=-1)) + 1 if raters is None else raters
    return Opinions(who, what, np.asarray(yes_N, dtype=np.bool_), where, truth_I, count, segments)


def majority(opinions: Opinions, weight_R: Floats) -> Floats:
    """The weighted share of yes for each question; a half where nothing weighs anything."""
    weight_N = weight_R[opinions.rater_N]
    yes_I = np.bincount(opinions.item_N, weights=weight_N * opinions.yes_N, minlength=opinions.items)
    all_I = np.bincount(opinions.item_N, weights=weight_N, minlength=opinions.items)
    return np.where(all_I > 0, yes_I / np.maximum(all_I, 1e-12), 0.5)
