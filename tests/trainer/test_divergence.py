"""KL over the whole vocabulary against a plain sum, and log-probabilities against the model's own."""

from pathlib import Path

import pytest
import torch

from tests.support.tiny_model import make_tiny_model
from tests.support.training import make_prompt
from trainer import divergence
from trainer.data import encode_prompt
from trainer.divergence import answer_kls, sequence_logprobs, tempered_logprobs
from trainer.lines import Encoded
from trainer.model import Base, adapter_parameters, attach_adapter, load_base, using
from trainer.transformers_sampler import TransformersSampler

ANSWERS = [Encoded([5, 6, 7], [8, 9, 10, 1]), Encoded([5, 6], [11, 1]), Encoded([5], []), Encoded([9, 8, 7, 6], [5, 1])]


@pytest.fixture
def base(tmp_path: Path) -> Base:
    base = load_base(make_tiny_model(tmp_path / "model"))
    for name, seed in (("policy", 1), ("other", 2)):
        attach_adapter(base, name, rank=4, alpha=8, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        for parameter in adapter_parameters(base, name):
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return base


def logps(base: Base, answer: Encoded, adapter: str | None) -> torch.Tensor:
    """[T, V] from the whole model, one answer at a time, in float64 after the logits."""
    ids = torch.tensor([[*answer.prompt, *answer.answer]])
    with using(base, adapter), torch.inference_mode():
        logits = base.model(input_ids=ids).logits[0].double()
    return logits.log_softmax(-1)[len(answer.prompt) - 1 : -1]


@pytest.mark.parametrize("reference", [None, "other"])
def test_kl_is_the_sum_over_tokens_and_vocabulary(base: Base, reference: str | None) -> None:
    found = answer_kls(base, ANSWERS, policy="policy", references=[reference])[reference]
    for answer, value in zip(ANSWERS, found, strict=True):
        if not answer.answer:
            assert value == 0.0
            continue
        mine, theirs = logps(base, answer, "policy"), logps(base, answer, reference)
        assert value == pytest.approx(float((mine.exp() * (mine - theirs)).sum()), rel=1e-4)
        assert value > 0


def test_a_policy_is_no_distance_from_itself(base: Base) -> None:
    found = answer_kls(base, ANSWERS, policy="policy", references=["policy"])["policy"]
    assert found == pytest.approx([0.0] * len(ANSWERS), abs=1e-6)


def test_a_fresh_adapter_is_no_distance_from_the_base(base: Base) -> None:
    attach_adapter(base, "fresh", rank=4, alpha=8, seed=3)
    assert answer_kls(base, ANSWERS, policy="fresh", references=[None])[None] == pytest.approx([0.0] * 4, abs=1e-6)


def test_small_pieces_of_the_vocabulary_give_the_same(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = answer_kls(base, ANSWERS, policy="policy", references=[None])[None]
    monkeypatch.setattr(divergence, "FLOATS_PER_PIECE", 1)
    assert answer_kls(base, ANSWERS, policy="policy", references=[None])[None] == pytest.approx(whole, rel=1e-5)


def test_a_sequence_has_one_logprob_for_every_token_but_the_first(base: Base) -> None:
    ids = [5, 6, 7, 8, 9]
    found = sequence_logprobs(base, ids, "policy")
    expected = logps(base, Encoded(ids[:1], ids[1:]), "policy")
    assert found == pytest.approx([float(expected[i, token]) for i, token in enumerate(ids[1:])], rel=1e-5)


def test_the_adapter_that_was_on_is_on_again_afterwards(base: Base) -> None:
    with using(base, "other"):
        answer_kls(base, ANSWERS, policy="policy", references=[None])
        assert base.switch.active == "other"


def sequence_kl(base: Base, prompt: list[int]) -> float:
    """Of all answers of one or two tokens, by enumeration: KL(p(x) || q(x)) over whole sequences."""
    first, firsts = (logps(base, Encoded(prompt, [0]), name)[0] for name in ("policy", None))
    total = 0.0
    for token in range(len(first)):
        p, ratio = float(first[token].exp()), float(first[token] - firsts[token])
        if token in base.end_ids:
            total += p * ratio
            continue
        second, seconds = (logps(base, Encoded(prompt, [token, 0]), name)[1] for name in ("policy", None))
        total += p * float((second.exp() * (ratio + second - seconds)).sum())
    return total


def test_the_mean_over_the_policys_samples_is_the_kl_of_its_sequences(base: Base) -> None:
    asked = make_prompt("Hi")
    drawn = TransformersSampler(base).sample(
        [asked], adapter="policy", n=2000, temperature=1.0, top_p=1.0, max_tokens=2, seed=0
    )[0]
    answers = [Encoded(answer.prompt_ids, answer.token_ids) for answer in drawn]
    found = torch.tensor(answer_kls(base, answers, policy="policy", references=[None])[None])
    expected = sequence_kl(base, encode_prompt(base.tokenizer, asked))
    assert abs(float(found.mean()) - expected) < 4 * float(found.std()) / len(found) ** 0.5
    assert float(found.std()) / len(found) ** 0.5 < 0.02 * expected  # or the line above says little


@pytest.mark.parametrize("adapter", [None, "policy"])
def test_whole_answers_at_their_temperatures_have_the_log_probabilities_that_they_were_drawn_with(
    base: Base, adapter: str | None
) -> None:
    temperatures, drawn = [0.7, 1.0, 1.5], []
    for temperature in temperatures:
        ((answer,),) = TransformersSampler(base).sample(
            [make_prompt()], adapter=adapter, n=1, temperature=temperature, top_p=1.0, max_tokens=9, seed=1
        )
        drawn.append(answer)
    rows = [Encoded(answer.prompt_ids, answer.token_ids) for answer in drawn]
    found = tempered_logprobs(base, rows, temperatures, adapter)
    assert found == pytest.approx([sum(answer.logprobs) for answer in drawn], abs=1e-3)
