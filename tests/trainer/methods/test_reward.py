"""Reward training: it learns who won, weights count, ties and corrections are treated as they should be."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.training import make_base, make_message, make_pair, make_prompt, make_settings, make_short_pairs
from trainer.data import CORRECTION, Preference, Tie
from trainer.errors import StageFailed
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
