"""What was trained here loads in plain PEFT and in vLLM, and says the same there."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from infra.contracts.routing import BASE_VERSION
from tests.support.policy import make_context
from tests.support.tiny_model import make_tiny_model
from tests.support.training import make_prompt, make_short_pairs
from tests.trainer.test_engine_sampler import running_vllm
from trainer.batches import all_logprobs
from trainer.engine_sampler import EngineSampler
from trainer.lines import Encoded
from trainer.methods import dpo
from trainer.model import Base, attach_adapter, load_base, save_adapter, using
from trainer.sampling import Sampled

NATS = 1e-4  # of a token's log-probability, in float32
QUESTIONS = ("What does math.cos do?", "Hi", "How are you today? And what is a list of strings good for?")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def trained(directory: Path) -> Base:
    """A base with the adapter `policy`, which DPO has moved, and which is saved beside it."""
    base = load_base(make_tiny_model(directory / "model"))
    attach_adapter(base, "policy", rank=8, alpha=16, seed=0)
    dpo.train(make_context(base, directory, pairs=make_short_pairs(64), preference_learning_rate=1e-2))
    save_adapter(base, "policy", directory / "adapter")
    return base


@pytest.fixture(scope="module")
def answers(trained: Base, directory: Path) -> list[Sampled]:
    """Written by vLLM with the adapter; their log-probabilities are its own."""
    with running_vllm(trained.directory, directory / "engine.log") as address:
        sampler = EngineSampler([address], "secret", BASE_VERSION)
        sampler.publish("train-1-0", directory / "adapter")
        prompts = [make_prompt(text) for text in QUESTIONS]
        drawn = sampler.sample(prompts, adapter="train-1-0", n=4, temperature=1.0, top_p=1.0, max_tokens=48, seed=0)
        sampler.close()
    return [answer for group in drawn for answer in group]


def rows_of(answers: Sequence[Sampled]) -> list[Encoded]:
    return [Encoded(answer.prompt_ids, answer.token_ids) for answer in answers]


def ours(base: Base, rows: Sequence[Encoded], adapter: str | None) -> list[torch.Tensor]:
    with using(base, adapter):
        return all_logprobs(base, rows)


@pytest.mark.engine
@pytest.mark.timeout(400)
def test_vllm_gives_a_trained_adapter_s_answers_the_same_log_probabilities(
    trained: Base, answers: list[Sampled]
) -> None:
    found = ours(trained, rows_of(answers), "policy")
    for answer, logps_T in zip(answers, found, strict=True):
        assert list(answer.logprobs) == pytest.approx(logps_T.tolist(), abs=NATS)
    bare = ours(trained, rows_of(answers), None)
    assert max(float((mine - plain).abs().max()) for mine, plain in zip(found, bare, strict=True)) > 100 * NATS


@pytest.mark.engine
@pytest.mark.timeout(400)
def test_plain_peft_and_transformers_give_them_the_same_too(
    trained: Base, answers: list[Sampled], directory: Path
) -> None:
    plain = AutoModelForCausalLM.from_pretrained(trained.directory, dtype=torch.float32)
    model = PeftModel.from_pretrained(plain, directory / "adapter").eval()
    rows = rows_of(answers)
    for row, logps_T in zip(rows, ours(trained, rows, "policy"), strict=True):
        ids = torch.tensor([[*row.prompt, *row.answer]])
        with torch.no_grad():
            table_TV = model(ids).logits[0, len(row.prompt) - 1 : -1].log_softmax(-1)
        torch.testing.assert_close(
            logps_T, table_TV.gather(-1, torch.tensor(row.answer)[:, None])[:, 0], atol=NATS, rtol=0
        )
