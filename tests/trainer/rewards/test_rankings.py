"""Judgements as elements: a ranking is one, each of its answers runs once, and its pairs are averaged."""

import math
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.training import make_base, make_message, make_pair, make_prompt, make_row
from trainer.data import Preference, Tie
from trainer.methods.reward import pairs_loss
from trainer.model import Base
from trainer.rewards.rankings import Collated, Element, Pair, collate, elements

CPU = torch.device("cpu")
RANKED = ("a", "a list", "a string", "the cosine of x")


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return make_base(tmp_path)


def make_ranking(texts: Sequence[str] = RANKED, **overrides: Any) -> list[Preference]:
    """As feedback writes it: all pairs, each of the weight that makes K answers say what K - 1 choices say."""
    shared = {"event": "vote-1 asked-1", "rater": "rater-1", "weight": 2 / len(texts), **overrides}
    return [make_pair(better, worse, **shared) for better, worse in combinations(texts, 2)]


def collated(*found: Element) -> Collated:
    made = collate(found, CPU)
    return Collated(
        made.rows, made.first_P, made.second_P, made.tied_P, made.weights_P.double(), made.asked_P.double(),
        made.style_PS,
    )  # fmt: skip


def alone(pair: Pair, scores: Tensor) -> Tensor:
    """-log sigmoid of one pair of an element, by hand."""
    return torch.log1p(torch.exp(-(scores[pair.first] - scores[pair.second] - pair.margin)))


def test_a_ranking_is_one_element_in_which_each_answer_is_once(base: Base) -> None:
    (ranking,) = elements(base, make_ranking(), longest=128)
    assert len(ranking.answers) == 4
    assert [(pair.first, pair.second) for pair in ranking.pairs] == list(combinations(range(4), 2))


def test_choices_of_their_own_are_elements_of_their_own(base: Base) -> None:
    two_people = [make_pair(event="e1", rater="r1"), make_pair(event="e2", rater="r2")]
    no_events = [make_pair(rater="r1"), make_pair(rater="r1")]
    assert [len(one.pairs) for one in elements(base, [*two_people, *no_events], longest=128)] == [1, 1, 1, 1]


def test_a_ranking_s_loss_is_the_mean_over_its_pairs(base: Base) -> None:
    (ranking,) = elements(base, make_ranking(), longest=128)
    scores = torch.tensor([0.3, -1.0, 2.0, 0.7], dtype=torch.float64)
    expected = sum(float(alone(pair, scores)) for pair in ranking.pairs) / 6
    assert float(pairs_loss(scores, collated(ranking))) == pytest.approx(expected, rel=1e-9)


def test_its_gradient_is_that_of_all_pairs_run_apart(base: Base) -> None:
    (ranking,) = elements(base, make_ranking(), longest=128)
    together = torch.tensor([0.3, -1.0, 2.0, 0.7], dtype=torch.float64, requires_grad=True)
    pairs_loss(together, collated(ranking)).backward()
    apart = together.detach().clone().requires_grad_()
    singles = [Element((make_row(), make_row()), (Pair(0, 1),)) for _ in ranking.pairs]
    rows = torch.stack([apart[place] for pair in ranking.pairs for place in (pair.first, pair.second)])
    pairs_loss(rows, collated(*singles)).backward()
    torch.testing.assert_close(together.grad, apart.grad, rtol=1e-9, atol=0)


def test_a_ranking_beside_a_choice_counts_by_what_its_rows_weigh(base: Base) -> None:
    """K answers say K - 1 choices' worth: Σ w l / Σ w."""
    found = elements(base, [*make_ranking(), make_pair("x", "a", event="e2")], longest=128)
    scores = torch.tensor([0.3, -1.0, 2.0, 0.7, 1.0, 0.5], dtype=torch.float64)
    ranked = sum(float(alone(pair, scores[:4])) for pair in found[0].pairs) / 6
    chosen = float(alone(found[1].pairs[0], scores[4:]))
    assert float(pairs_loss(scores, collated(*found))) == pytest.approx((3 * ranked + chosen) / 4, rel=1e-6)


def test_weight_two_is_the_judgement_twice() -> None:
    one, other = (Element((make_row(), make_row()), (Pair(0, 1, margin=m),)) for m in (0.0, 0.5))
    scores = torch.tensor([0.3, -1.0, 2.0, 0.75], dtype=torch.float64)
    weighed = pairs_loss(scores, collated(one, other.times(2.0)), centring=0.25)
    repeated = pairs_loss(torch.cat([scores, scores[2:]]), collated(one, other, other), centring=0.25)
    assert float(weighed) == pytest.approx(float(repeated), rel=1e-9)


def test_margin_and_centring_enter_as_trl_has_them() -> None:
    scores = torch.tensor([0.3, -1.0, 2.0, 0.75], dtype=torch.float64)
    found = [Element((make_row(), make_row()), (Pair(0, 1, margin=m),)) for m in (0.0, 0.5)]
    ours = pairs_loss(scores, collated(*found), centring=0.25)
    first, second = scores[[0, 2]], scores[[1, 3]]
    trl = -torch.nn.functional.logsigmoid(first - second - torch.tensor([0.0, 0.5], dtype=torch.float64)).mean()
    assert float(ours) == pytest.approx(float(trl + 0.25 * torch.mean((first + second) ** 2)), rel=1e-9)


def test_margins_are_scaled_by_a_setting_and_ties_have_none(base: Base) -> None:
    tie = Tie(make_prompt(), make_message("a"), make_message("x"), event="e3")
    found = elements(base, [make_pair(margin=2.0), tie], longest=128, margin_scale=0.5)
    assert [one.pairs[0].margin for one in found] == [1.0, 0.0]
    assert [one.pairs[0].tie for one in found] == [False, True]


def test_the_too_long_answer_of_a_ranking_goes_alone(base: Base) -> None:
    (ranking,) = elements(base, make_ranking([*RANKED[:3], "the cosine " * 100]), longest=128)
    assert (len(ranking.answers), len(ranking.pairs)) == (3, 3)


def test_what_weighs_nothing_is_not_there(base: Base) -> None:
    assert elements(base, [make_pair(weight=0.0)], longest=128) == []


def test_answers_of_a_batch_are_laid_out_element_by_element() -> None:
    ranked = Element(tuple(make_row(answer=(60 + n, 1)) for n in range(3)), (Pair(0, 1), Pair(0, 2), Pair(1, 2)))
    single = Element((make_row(answer=(90, 1)), make_row(answer=(91, 1))), (Pair(0, 1, tie=True),))
    made = collate([ranked, single], CPU)
    assert [row.answer[0] for row in made.rows] == [60, 61, 62, 90, 91]
    assert made.first_P.tolist() == [0, 0, 1, 3]
    assert made.second_P.tolist() == [1, 2, 2, 4]
    assert made.tied_P.tolist() == [False, False, False, True]


def test_nobody_s_judgements_are_units_of_their_own(base: Base) -> None:
    units = [one.unit for one in elements(base, [make_pair(), make_pair(), make_pair(rater="r1")], longest=128)]
    assert len(set(units)) == 3
    assert "r1" in units


def test_a_davidson_tie_in_an_element_has_its_closed_form() -> None:
    tie = Element((make_row(), make_row()), (Pair(0, 1, tie=True),))
    scores, log_tie = torch.tensor([1.0, -0.2], dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    nu = math.exp(0.4)
    expected = -math.log(nu / (math.exp(0.6) + math.exp(-0.6) + nu))
    assert float(pairs_loss(scores, collated(tie), log_tie=log_tie)) == pytest.approx(expected, rel=1e-9)
