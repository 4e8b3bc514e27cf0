"""Ensembles: they score as one, disagree where nobody taught them, and are saved to the last bit."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.tiny_model import make_tiny_model
from tests.support.training import disturb, make_base, make_pair, make_prompt, make_settings, make_short_pairs
from trainer.batches import encode
from trainer.lines import Encoded
from trainer.methods import reward
from trainer.model import Base, adapter_parameters, load_base
from trainer.rewarding import DESCRIPTION, Head, Reward, RewardMismatch, RewardModel
from trainer.rewards.corpus import read_corpus
from trainer.rewards.ensemble import Ensemble, Score, load_reward

TEXTS = ("a list", "the cosine of x returns a string", "x", "when called with math")


def make_member(base: Base, number: int, *, features: bool = False) -> RewardModel:
    """Untrained, but with an adapter and a head that count."""
    name = f"reward_{number}"
    disturb(base, name, number)
    head = Head(base.hidden_size, features=features)
    generator = torch.Generator().manual_seed(number)
    for parameter in head.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return RewardModel(base, name, head)


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return make_base(tmp_path, adapters=("reward_0", "reward_1", "reward_2"))


def make_ensemble(base: Base, score: Score = "mean", *, features: bool = False, weight: float = 1.0) -> Ensemble:
    return Ensemble([make_member(base, number, features=features) for number in range(3)], score, weight)


def rows_of(base: Base, texts: Sequence[str] = TEXTS) -> list[Encoded]:
    return [encode(base, make_prompt(), text) for text in texts]


def train(base: Base, pairs: list[Any], **overrides: Any) -> Reward:
    settings = make_settings(reward_members=3, **overrides)
    return reward.train(base, pairs, [], name="reward", settings=settings, seed=0, features=False)


def test_mean_worst_and_mean_less_disagreement_are_what_they_say(base: Base) -> None:
    ensemble, rows = make_ensemble(base, weight=0.5), rows_of(base)
    scores = np.stack([member.score_encoded(rows).numpy() for member in ensemble.members], axis=1)
    expected = {
        "mean": scores.mean(1),
        "worst": scores.min(1),
        "uncertainty": scores.mean(1) - 0.5 * scores.std(1, ddof=1),
    }
    for rule, wanted in expected.items():
        ensemble.score_rule = rule  # type: ignore[assignment]
        np.testing.assert_allclose(ensemble.score_encoded(rows).numpy(), wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ensemble.disagreement(rows).numpy(), scores.std(1, ddof=1), rtol=1e-5)
    assert (expected["worst"] <= expected["mean"]).all()


@pytest.mark.parametrize("score", ["mean", "worst", "uncertainty"])
def test_a_temperature_divides_every_score(base: Base, score: Score) -> None:
    ensemble, rows = make_ensemble(base, score), rows_of(base)
    before, apart = ensemble.score_encoded(rows), ensemble.disagreement(rows)
    ensemble.temperature = 2.0
    torch.testing.assert_close(ensemble.score_encoded(rows), before / 2)
    torch.testing.assert_close(ensemble.disagreement(rows), apart / 2)


def test_one_model_never_disagrees_with_itself(base: Base) -> None:
    model = make_member(base, 0)
    assert torch.equal(model.disagreement(rows_of(base)), torch.zeros(len(TEXTS)))
    torch.testing.assert_close(model.member_scores(rows_of(base))[:, 0], model.score_encoded(rows_of(base)))


@pytest.mark.parametrize("features", [False, True])
def test_a_saved_ensemble_is_the_same_to_the_last_bit_when_loaded(base: Base, tmp_path: Path, features: bool) -> None:
    ensemble = make_ensemble(base, "uncertainty", features=features, weight=0.7)
    ensemble.temperature, ensemble.members[1].offset = 1.7, 0.3
    sha256 = ensemble.save(tmp_path / "saved", {"accuracy": 0.7})
    again = load_reward(load_base(base.directory), tmp_path / "saved")
    assert isinstance(again, Ensemble)
    for mine, theirs in zip(ensemble.members, again.members, strict=True):
        pairs = zip(adapter_parameters(base, mine.name), adapter_parameters(again.base, theirs.name), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)
        assert all(torch.equal(v, theirs.head.state_dict()[key]) for key, v in mine.head.state_dict().items())
    assert torch.equal(again.score_encoded(rows_of(base)), ensemble.score_encoded(rows_of(base)))
    assert again.save(tmp_path / "again", {"accuracy": 0.7}) == sha256
    described = [json.loads((tmp_path / name / DESCRIPTION).read_text()) for name in ("saved", "again")]
    assert described[0] == described[1]


def test_whichever_was_saved_is_loaded(base: Base, tmp_path: Path) -> None:
    model = make_member(base, 0)
    model.temperature, model.offset, model.style_coefficients = 2.0, -0.25, {"length": 0.5}
    model.save(tmp_path / "one")
    found = load_reward(load_base(base.directory), tmp_path / "one", "mine")
    assert isinstance(found, RewardModel)
    assert (found.name, found.temperature, found.offset) == ("mine", 2.0, -0.25)
    assert found.style_coefficients == {"length": 0.5}
    assert torch.equal(found.score_encoded(rows_of(base)), model.score_encoded(rows_of(base)))


def test_an_ensemble_of_another_base_is_refused(base: Base, tmp_path: Path) -> None:
    make_ensemble(base).save(tmp_path / "saved")
    other = load_base(make_tiny_model(tmp_path / "other", seed=1))
    with pytest.raises(RewardMismatch, match=other.revision):
        load_reward(other, tmp_path / "saved")


def test_its_name_is_its_first_member_s_adapter_and_closing_takes_all_off(base: Base) -> None:
    ensemble = make_ensemble(base)
    assert adapter_parameters(base, ensemble.name)
    ensemble.close()
    assert not any("reward_" in name for name, _ in base.model.named_parameters())


def test_members_differ_by_their_raters_and_seeds(tmp_path: Path) -> None:
    model = train(make_base(tmp_path), make_short_pairs(48))
    assert isinstance(model, Ensemble)
    heads = [member.head.hidden.weight.detach() for member in model.members]
    assert not torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[1], heads[2])


def test_one_member_is_a_plain_model_on_all_raters(tmp_path: Path) -> None:
    settings, pairs = make_settings(), make_short_pairs(24)
    base, other = make_base(tmp_path), make_base(tmp_path)
    everyone = read_corpus(base, pairs, [], settings, features=False)
    plain = reward.train_on(base, everyone, everyone, name="reward", settings=settings, seed=0)
    single = reward.train(other, pairs, [], name="reward", settings=settings, seed=0, features=False)
    assert isinstance(single, RewardModel)
    assert torch.equal(single.head.hidden.weight, plain.head.hidden.weight)


def test_members_disagree_more_where_their_raters_do(tmp_path: Path) -> None:
    """All raters like short answers; about "math" against "value" each half says otherwise."""
    quarrel = [
        make_pair(*(("math", "value") if number % 2 else ("value", "math")), rater=f"rater-{number % 8}")
        for number in range(48)
    ]
    settled = [make_pair("a list", "of the string", rater=f"rater-{number % 8}") for number in range(48)]
    model = train(make_base(tmp_path), [*quarrel, *settled], reward_learning_rate=5e-3, reward_epochs=3)
    rows = rows_of(model.base, ("math", "value", "a list", "of the string"))
    math, value, short, long = model.member_scores(rows)
    quarrelled, agreed = math - value, short - long
    assert float((agreed > 0).float().mean()) == 1.0
    relative = [float(margins.std() / margins.mean().abs()) for margins in (quarrelled, agreed)]
    assert relative[0] > 2 * relative[1]


def test_among_words_that_no_member_learned_more_of_the_scores_is_disagreement(tmp_path: Path) -> None:
    known, strange = ("the", "cosine", "of", "x", "returns"), ("a", "list", "string", "value", "when", "called", "math")
    rng = random.Random(0)

    def made(words: Sequence[str]) -> str:
        return " ".join(rng.choices(words, k=4))

    def worth(text: str) -> int:
        return sum(known.index(word) for word in text.split())

    drawn = [sorted((made(known), made(known)), key=worth) for _ in range(96)]
    pairs = [make_pair(better, worse, rater=f"rater-{n % 8}") for n, (worse, better) in enumerate(drawn)]
    model = train(make_base(tmp_path), pairs, reward_learning_rate=3e-3, reward_epochs=2)
    rows = [rows_of(model.base, [made(words) for _ in range(30)]) for words in (known, strange)]
    inside, outside = (float(model.disagreement(some).mean() / model.score_encoded(some).std()) for some in rows)
    assert outside > 2 * inside


def test_all_members_have_their_zero_at_the_same_answers(tmp_path: Path) -> None:
    pairs = make_short_pairs(24)
    model = train(make_base(tmp_path), pairs)
    answers = [(pair.prompt, side) for pair in pairs for side in (pair.chosen, pair.rejected)]
    assert isinstance(model, Ensemble)
    for member in model.members:
        assert float(member.score(answers).mean()) == pytest.approx(0.0, abs=1e-5)


def test_progress_counts_the_steps_of_all_members(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    settings = make_settings(reward_members=2, reward_batch=8)
    pairs = [make_pair(rater="rater-1")] * 16
    reward.train(
        make_base(tmp_path), pairs, [], name="reward", settings=settings, seed=0, features=False,
        progress=lambda step, total, _: told.append((step, total)),
    )  # fmt: skip
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
