"""The reward model as others use it: it scores, it is saved, and it sees the base's log-probabilities."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.tiny_model import make_tiny_model
from tests.support.training import disturb, make_base, make_message, make_prompt, make_row
from trainer.batches import all_logprobs
from trainer.model import Base, load_base
from trainer.rewarding import DESCRIPTION, Head, RewardMismatch, RewardModel, logprob_features

ASKED = [
    (make_prompt("Hi"), "a list"),
    (make_prompt("Join?"), "the cosine of x returns a string"),
    (make_prompt("Hi"), "x"),
]


def make_reward(base: Base, *, features: bool, seed: int = 0) -> RewardModel:
    """Untrained, but with an adapter and a head that count."""
    disturb(base, "reward", seed)
    head = Head(base.hidden_size, features=features)
    generator = torch.Generator().manual_seed(seed)
    for parameter in head.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return RewardModel(base, "reward", head)


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return make_base(tmp_path, adapters=("reward",))


@pytest.mark.parametrize("features", [False, True])
def test_scores_do_not_depend_on_what_else_is_scored(base: Base, features: bool) -> None:
    model = make_reward(base, features=features)
    together = model.score(ASKED)
    alone = np.concatenate([model.score([one]) for one in ASKED])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)
    assert len(set(together.round(3))) == 3


def test_messages_and_prompts_score_alike(base: Base) -> None:
    model = make_reward(base, features=True)
    prompt = make_prompt("Hi")
    by_message = model.score([(list(prompt.messages), make_message("a list"))])
    np.testing.assert_allclose(by_message, model.score([(prompt, "a list")]))


def test_no_conversations_have_no_scores(base: Base) -> None:
    assert make_reward(base, features=True).score([]).shape == (0,)


@pytest.mark.parametrize("features", [False, True])
def test_a_saved_reward_model_scores_the_same_when_loaded(base: Base, tmp_path: Path, features: bool) -> None:
    model = make_reward(base, features=features)
    model.save(tmp_path / "saved", {"accuracy": 0.7})
    again = RewardModel.load(load_base(base.directory), tmp_path / "saved")
    np.testing.assert_allclose(again.score(ASKED), model.score(ASKED), rtol=1e-6)
    assert again.sees_features == features
    assert json.loads((tmp_path / "saved" / DESCRIPTION).read_text())["metrics"] == {"accuracy": 0.7}


def test_saving_twice_gives_the_same_bytes(base: Base, tmp_path: Path) -> None:
    model = make_reward(base, features=True)
    assert model.save(tmp_path / "a") == model.save(tmp_path / "b")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_a_reward_model_of_another_base_is_refused(base: Base, tmp_path: Path) -> None:
    make_reward(base, features=False).save(tmp_path / "saved")
    other = load_base(make_tiny_model(tmp_path / "other", seed=1))
    with pytest.raises(RewardMismatch, match=other.revision):
        RewardModel.load(other, tmp_path / "saved")


def test_a_directory_s_dot_does_not_break_the_adapter_s_name(base: Base, tmp_path: Path) -> None:
    make_reward(base, features=False).save(tmp_path / "reward.1.part")
    assert RewardModel.load(base, tmp_path / "reward.1.part").name == "reward_1_part"


def test_scoring_leaves_the_base_as_it_was_and_closing_takes_the_adapter_off(base: Base) -> None:
    model = make_reward(base, features=True)
    model.score(ASKED)
    assert base.switch.active is None
    model.close()
    assert not any("reward" in name for name, _ in base.model.named_parameters())


def test_features_come_from_the_bare_base(base: Base) -> None:
    model = make_reward(base, features=True)
    rows = [make_row(), make_row(answer=(70, 1))]
    expected = torch.stack([logprob_features(logps_T) for logps_T in all_logprobs(base, rows)])
    found = model.features(rows)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(model.score_encoded(rows, all_logprobs(base, rows)), model.score_encoded(rows))


def test_a_head_without_features_asks_for_none(base: Base) -> None:
    assert make_reward(base, features=False).features([make_row()]) is None


def test_the_three_features_are_mean_lowest_and_mean_of_the_lowest_three() -> None:
    features = logprob_features(torch.tensor([-1.0, -5.0, -2.0, 0.0]))
    torch.testing.assert_close(features, torch.tensor([-2.0, -5.0, -8.0 / 3]))
    torch.testing.assert_close(logprob_features(torch.tensor([-3.0])), torch.full((3,), -3.0))


def test_features_are_standardised_by_what_the_head_was_trained_on() -> None:
    head = Head(4, features=True)
    rows_BF = torch.tensor([[0.0, 2.0, 4.0], [2.0, 6.0, 12.0]])
    head.standardise_by(rows_BF)
    assert head.features is not None
    head.features.weight.data.fill_(1.0)
    scores_B = head(torch.zeros(2, 4), rows_BF)
    torch.testing.assert_close(scores_B[1] - scores_B[0], torch.tensor(3 * 2**0.5))
