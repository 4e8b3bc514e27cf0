"""The sampler in memory: the common promises, and the same samples from the same seed."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from tests.support.sampler_conformance import SamplerConformance, draw, prompts_of_several_lengths
from tests.support.training import disturb, make_base, make_prompt
from trainer.data import encode_prompt
from trainer.model import Base, save_adapter
from trainer.transformers_sampler import ROWS, TransformersSampler, _nucleus


@pytest.fixture
def base(tmp_path: Path) -> Base:
    made = make_base(tmp_path, adapters=("disturbed",))
    disturb(made, "disturbed")
    return made


@pytest.fixture
def adapter(base: Base, tmp_path: Path) -> Path:
    save_adapter(base, "disturbed", tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.fixture
def sampler(base: Base) -> TransformersSampler:
    return TransformersSampler(base)


class TestConformance(SamplerConformance):
    """The common suite."""


def test_the_same_seed_gives_the_same_samples_and_another_seed_others(sampler: TransformersSampler) -> None:
    prompts = prompts_of_several_lengths()
    assert draw(sampler, prompts) == draw(sampler, prompts)
    assert draw(sampler, prompts) != draw(sampler, prompts, seed=2)


def test_samples_of_one_prompt_differ(sampler: TransformersSampler) -> None:
    group = draw(sampler, [make_prompt()], n=8)[0]
    assert len({tuple(answer.token_ids) for answer in group}) > 1


def test_more_prompts_than_fit_at_once_are_all_answered(sampler: TransformersSampler) -> None:
    prompts = [make_prompt("Hi " * (1 + number % 3)) for number in range(ROWS // 8)]
    assert [len(group) for group in draw(sampler, prompts, n=9, max_tokens=2)] == [9] * len(prompts)


def test_greedy_decoding_is_transformers_own(base: Base, sampler: TransformersSampler) -> None:
    ids = torch.tensor([encode_prompt(base.tokenizer, make_prompt())])
    expected = base.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False)
    found = draw(sampler, [make_prompt(), make_prompt("Hi")], n=2, temperature=0.0)[0]
    assert [list(answer.token_ids) for answer in found] == [expected[0, ids.shape[1] :].tolist()] * 2


def test_frequencies_follow_the_model_s_probabilities(base: Base, sampler: TransformersSampler) -> None:
    first = Counter(answer.token_ids[0] for answer in draw(sampler, [make_prompt()], n=4000, max_tokens=1)[0])
    ids = torch.tensor([encode_prompt(base.tokenizer, make_prompt())])
    probabilities = base.model(ids).logits[0, -1].softmax(-1)
    token = int(probabilities.argmax())
    expected = float(probabilities[token])
    assert first[token] / 4000 == pytest.approx(expected, abs=4 * (expected / 4000) ** 0.5)


def test_the_nucleus_is_the_smallest_set_that_reaches_top_p() -> None:
    logits = torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    kept = _nucleus(logits, 0.7).isfinite()
    assert kept.tolist() == [[True, True, False, False]]
    assert _nucleus(logits, 1.0) is logits
