"""Reward training: it learns who won, weights count, ties and corrections are treated as they should be."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.training import make_base, make_message, make_pair, make_prompt, make_settings, make_short_pairs
from trainer.batches import Batch, make_batch
from trainer.data import CORRECTION, Preference, Tie
from trainer.errors import StageFailed
from trainer.lines import Encoded
from trainer.methods import reward
from trainer.model import Base
from trainer.rewarding import RewardModel


def train(base: Base, pairs: list[Preference], ties: list[Tie] | None = None, **overrides: Any) -> RewardModel:
    wanted = {"name": "reward", "settings": make_settings(), "seed": 0, "features": False, **overrides}
    return reward.train(base, pairs, ties or [], **wanted)


def margins(model: RewardModel, pairs: list[Preference]) -> torch.Tensor:
    chosen, rejected = (
        model.score([(pair.prompt, side(pair)) for pair in pairs])
        for side in (lambda pair: pair.chosen, lambda pair: pair.rejected)
    )
    return torch.tensor(chosen - rejected)


def weights(model: RewardModel) -> torch.Tensor:
    return torch.cat([p.flatten() for p in model.head.parameters()]).detach()


def make_tie(a: str, b: str) -> Tie:
    return Tie(make_prompt(), make_message(a), make_message(b))


@pytest.mark.parametrize("features", [False, True])
def test_it_learns_a_taste_and_knows_it_on_new_pairs(tmp_path: Path, features: bool) -> None:
    model = train(make_base(tmp_path), make_short_pairs(96), features=features)
    assert (margins(model, make_short_pairs(40, seed=1)) > 0).float().mean() > 0.9


def test_a_row_s_weight_decides_where_raters_disagree(tmp_path: Path) -> None:
    pairs = [make_pair("a list", "a string", weight=3.0), make_pair("a string", "a list", weight=1.0)] * 32
    model = train(make_base(tmp_path), pairs, settings=make_settings(reward_learning_rate=1e-2, reward_epochs=3))
    assert torch.sigmoid(margins(model, pairs[:1])).item() == pytest.approx(0.75, abs=0.1)


def test_a_row_of_no_weight_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    pairs = make_short_pairs(16)
    with_it = train(make_base(tmp_path), [*pairs, make_pair("x", "a list", weight=0.0)])
    assert torch.equal(weights(with_it), weights(train(make_base(tmp_path), pairs)))


def test_ties_keep_scores_together_and_teach_how_likely_a_tie_is(tmp_path: Path) -> None:
    settings = make_settings(reward_learning_rate=1e-2, reward_epochs=6)
    ties = [make_tie("a list", "a string")] * 32
    model = train(make_base(tmp_path), make_short_pairs(8), ties, settings=settings)
    assert abs(margins(model, [make_pair("a list", "a string")]).item()) < 0.3
    assert float(model.head.log_tie.detach()) > 0.5  # on its way to log 8: four ties in five


def test_without_ties_the_tie_parameter_stays_where_it_was(tmp_path: Path) -> None:
    assert float(train(make_base(tmp_path), make_short_pairs(16)).head.log_tie.detach()) == 0


def test_corrections_teach_a_head_without_features_only(tmp_path: Path) -> None:
    pairs, corrections = make_short_pairs(16), [make_pair("x x x", "a list", source=CORRECTION)] * 16
    with_features = train(make_base(tmp_path), [*pairs, *corrections], features=True)
    assert torch.equal(weights(with_features), weights(train(make_base(tmp_path), pairs, features=True)))
    without = train(make_base(tmp_path), [*pairs, *corrections])
    assert not torch.equal(weights(without), weights(train(make_base(tmp_path), pairs)))


def test_a_row_that_is_too_long_is_left_out(tmp_path: Path) -> None:
    pairs = make_short_pairs(16)
    long = make_pair("the cosine " * 100)
    assert torch.equal(weights(train(make_base(tmp_path), [*pairs, long])), weights(train(make_base(tmp_path), pairs)))


def test_no_rows_are_a_reason_to_stop(tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="no preference pairs"):
        train(make_base(tmp_path), [make_pair(source=CORRECTION)], features=True)


def test_the_same_rows_and_seed_give_the_same_model_and_another_seed_another(tmp_path: Path) -> None:
    hashes = [train(make_base(tmp_path), make_short_pairs(16), seed=seed).save(tmp_path / "out") for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_progress_is_told_step_by_step_under_trl_s_names(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def note(step: int, total: int, metrics: dict[str, float]) -> None:
        told.append((step, total))
        assert {"loss", "accuracy", "margin", "grad_norm"} <= metrics.keys()

    train(make_base(tmp_path), make_short_pairs(40), progress=note)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_stronger_preference_moves_scores_further_apart(tmp_path: Path) -> None:
    """Three against one: the scores end log 3 apart, and about 3.7 where each choice asks for 3 more."""
    settings, apart = make_settings(reward_learning_rate=1e-2, reward_epochs=3), []
    for margin in (0.0, 3.0):
        rows = [make_pair("a list", "a string", margin=margin)] * 3 + [make_pair("a string", "a list", margin=margin)]
        apart.append(margins(train(make_base(tmp_path), rows * 16, settings=settings), rows[:1]).item())
    assert apart == pytest.approx([1.1, 3.7], abs=0.5)


def test_margins_that_are_scaled_to_nothing_teach_nothing(tmp_path: Path) -> None:
    settings, pairs = make_settings(reward_margin_scale=0.0), make_short_pairs(16)
    with_them = train(make_base(tmp_path), [replace(pair, margin=2.0) for pair in pairs], settings=settings)
    assert torch.equal(weights(with_them), weights(train(make_base(tmp_path), pairs, settings=settings)))


def test_a_ranking_runs_each_answer_once_per_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, sizes = ("a", "a list", "a string", "a list of the cosine"), list[int]()
    ranking = [make_pair(a, b, event="vote-1", rater="r1") for a, b in combinations(texts, 2)]

    def noted(base: Base, rows: Sequence[Encoded]) -> Batch:
        sizes.append(len(rows))
        return make_batch(base, rows)

    monkeypatch.setattr(reward, "make_batch", noted)
    train(make_base(tmp_path), ranking)
    assert sizes == [4]


def test_a_ranking_teaches_the_order_of_all_its_answers(tmp_path: Path) -> None:
    texts = ("a", "a list", "of the string", "the cosine of x when called")
    rows = [
        make_pair(a, b, event=f"vote-{n}", rater=f"r{n}", weight=2 / 4)
        for n in range(24)
        for a, b in combinations(texts, 2)
    ]
    settings = make_settings(reward_learning_rate=5e-3, reward_epochs=3)
    scores = train(make_base(tmp_path), rows, settings=settings).score([(make_prompt(), text) for text in texts])
    assert scores.tolist() == sorted(scores.tolist(), reverse=True)


def test_centring_while_training_keeps_sums_of_scores_near_zero(tmp_path: Path) -> None:
    sums = []
    for coefficient in (0.0, 1.0):
        settings = make_settings(center_rewards_coefficient=coefficient, reward_learning_rate=3e-3, reward_epochs=4)
        pairs = make_short_pairs(48)
        model = train(make_base(tmp_path), pairs, settings=settings)
        model.offset = 0.0
        both = model.score([(pair.prompt, side) for pair in pairs for side in (pair.chosen, pair.rejected)])
        sums.append(float(abs(both.reshape(-1, 2).sum(1)).mean()))
    assert sums[1] < 0.5 * sums[0]


def test_what_it_was_trained_on_scores_zero_on_average(tmp_path: Path) -> None:
    pairs = make_short_pairs(24)
    model = train(make_base(tmp_path), pairs, features=True)
    answers = [(pair.prompt, side) for pair in pairs for side in (pair.chosen, pair.rejected)]
    assert float(model.score(answers).mean()) == pytest.approx(0.0, abs=1e-5)
    assert model.offset != 0
