"""The model card: figures of held-out raters, and a model that is left calibrated by them."""

from pathlib import Path

import pytest

from tests.support.training import make_base, make_pair, make_settings, make_short_pairs
from trainer.batches import encode
from trainer.data import Preference, Tie
from trainer.methods import reward as method
from trainer.rewards.card import measure
from trainer.rewards.ensemble import Ensemble

SIDES = (lambda pair: pair.chosen, lambda pair: pair.rejected)


def noisy_pairs(count: int, seed: int) -> list[Preference]:
    """The shorter answer is liked by four in five."""
    pairs = make_short_pairs(count, seed)
    return [
        make_pair(pair.rejected["content"], pair.chosen["content"], rater=pair.rater, segment="de")
        if number % 5 == 0
        else pair
        for number, pair in enumerate(pairs)
    ]


@pytest.mark.parametrize("members", [1, 2])
def test_enough_held_out_pairs_leave_the_model_calibrated(tmp_path: Path, members: int) -> None:
    settings = make_settings(
        reward_members=members, reward_learning_rate=1e-2, reward_epochs=3, reward_style_control=members > 1
    )
    base, ties = make_base(tmp_path), list[Tie]()
    model = method.train(base, make_short_pairs(96), ties, name="reward", settings=settings, seed=0, features=False)
    held_out = noisy_pairs(120, seed=1)
    card = measure(model, held_out)
    assert model.temperature == card["temperature"] > 1.5  # it never met noise, and is too sure
    assert card["calibrated"]["log_loss"]["value"] < card["log_loss"]["value"]
    assert "ece" not in card
    assert card["accuracy_by_segment"].keys() == {"de"}
    assert ("style_coefficients" in card) == (members > 1)
    again = measure(model, held_out)
    assert again["calibration_slope"]["value"] == pytest.approx(1.0, rel=1e-3)


def test_few_held_out_pairs_leave_scores_as_they_are(tmp_path: Path) -> None:
    base = make_base(tmp_path)
    settings = make_settings(reward_members=2)
    model = method.train(base, make_short_pairs(24), [], name="r", settings=settings, seed=0, features=False)
    card = measure(model, noisy_pairs(20, seed=1))
    assert isinstance(model, Ensemble)
    assert model.temperature == 1.0
    assert "temperature" not in card
    assert card["pairs"] == 20


@pytest.mark.parametrize("members", [1, 3])
def test_an_ensemble_s_card_has_its_members_and_how_often_they_agree(tmp_path: Path, members: int) -> None:
    settings, held_out = make_settings(reward_members=members), make_short_pairs(20, seed=1)
    model = method.train(
        make_base(tmp_path), make_short_pairs(48), [], name="r", settings=settings, seed=0, features=False
    )
    card = measure(model, held_out)
    if members == 1:
        assert "member_accuracy" not in card
        return
    chosen, rejected = (
        model.member_scores([encode(model.base, pair.prompt, side) for pair, side in sides])
        for sides in (zip(held_out, map(side, held_out), strict=True) for side in SIDES)
    )
    assert card["member_accuracy"] == pytest.approx((chosen > rejected).float().mean(0).tolist(), abs=0.051)
    same = sum(len(set(row)) == 1 for row in (chosen > rejected).tolist()) / len(held_out)
    assert card["member_agreement"] == pytest.approx(same, abs=0.051)


def test_no_held_out_pairs_make_a_card_without_figures(tmp_path: Path) -> None:
    settings = make_settings(reward_members=2)
    base = make_base(tmp_path)
    model = method.train(base, make_short_pairs(16), [], name="r", settings=settings, seed=0, features=False)
    assert measure(model, [])["pairs"] == 0
