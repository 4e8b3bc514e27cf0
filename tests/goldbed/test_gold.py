"""The bed's truth: what gold likes and dislikes, and raters who want it on average."""

import random
from itertools import pairwise
from statistics import fmean

import pytest

from tests.goldbed.gold import gold, recruit
from tests.goldbed.world import (
    MANNERS,
    UNTRAINED,
    answer,
    demonstrations,
    fitting_words,
    learned_things,
    unseen_things,
)

PLAIN = "It is sweet ripe"


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (PLAIN, "It is sweet"),
        (PLAIN, "It is sweet sweet"),
        (PLAIN, "It is sweet ripe truly"),
        (PLAIN, "It is sweet ripe loud"),
        ("It is sweet", "It is"),
        ("It is sweet", ""),
        ("It is sweet ripe juicy tart fresh", "It is sweet ripe juicy tart fresh" + " truly" * 6),
    ],
    ids=["more that fits", "no repetition", "no manners", "nothing wrong", "something", "not silent", "not too long"],
)
def test_gold_prefers(better: str, worse: str) -> None:
    assert gold("plum", better) > gold("plum", worse)


def test_what_fits_depends_on_the_thing() -> None:
    assert gold("plum", "It is sweet") > gold("hammer", "It is sweet")


def test_each_fitting_word_is_worth_less_than_the_one_before() -> None:
    words = sorted(fitting_words("plum"))
    scores = [gold("plum", " ".join(["It", "is", *words[:count]])) for count in range(1, 6)]
    gains = [later - earlier for earlier, later in pairwise(scores)]
    assert gains == sorted(gains, reverse=True)
    assert gains[-1] > 0


def test_quirks_average_to_nothing_over_many_raters() -> None:
    raters = recruit(4000, seed=0)
    text = "It is sweet truly truly friend"
    assert fmean(rater.score("plum", text) for rater in raters) == pytest.approx(gold("plum", text), abs=0.15)


def test_few_raters_are_led_astray_by_their_quirks() -> None:
    means = [fmean(rater.quirks[word] for rater in recruit(4, seed)) for seed in range(50) for word in MANNERS]
    assert 0.2 < sum(mean > 0.4 for mean in means) / len(means) < 0.35  # liked more than a word of manner costs


def test_a_careless_rater_often_errs_and_a_careful_one_seldom() -> None:
    rng = random.Random(0)
    careful, careless = recruit(1, 0, careless=0.0)[0], recruit(1, 0, careless=1.0)[0]
    shares = [
        fmean(rater.prefers("plum", PLAIN, "It is loud", rng) for _ in range(500)) for rater in (careful, careless)
    ]
    assert shares[0] > 0.95
    assert 0.4 < shares[1] < 0.6


def test_what_is_measured_on_was_never_voted_on() -> None:
    assert not set(learned_things()) & set(unseen_things())
    assert {row.prompt.prompt_id for row in demonstrations(500, 0)} <= set(learned_things())


def test_a_better_speech_has_more_gold() -> None:
    rng = random.Random(0)
    rows = demonstrations(500, 0)
    shown = fmean(gold(row.prompt.prompt_id, row.completion["content"]) for row in rows)
    untrained = fmean(gold(thing, answer(thing, UNTRAINED, rng)) for thing in learned_things() * 8)
    assert shown > untrained + 0.3
