"""What evaluation records for the controller's smoke is what an engine, asked as the smoke asks, must find."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from serving.adapters import read_base
from tests.support.adapters import make_adapter
from tests.support.adapters import smoke_cases as by_peft
from tests.support.tiny_model import make_tiny_model
from trainer.divergence import sequence_logprobs
from trainer.model import Base, load_adapter, load_base
from trainer.sampling import Sampled
from trainer.stages.evaluating import SMOKE_CASES, SMOKE_TOKENS, smoke_cases, smoke_sequences

PROMPTS = [[5, 17, 33, 60], [7, 9, 121, 200, 8]]


def make_sampled(prompt_ids: list[int], token_ids: list[int]) -> Sampled:
    fields = {"prompt_ids": prompt_ids, "token_ids": token_ids, "logprobs": [-0.1] * len(token_ids), "text": ""}
    return Sampled(**{**fields, "finish_reason": "stop"})  # type: ignore[arg-type]  # one dict for all fields


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    made = make_adapter(tmp_path_factory.mktemp("adapters") / "made", model, targets=load_targets(model), scale=0.2)
    return made.directory


def load_targets(model: Path) -> list[str]:
    """The trainer adapts every linear layer."""
    return sorted(read_base(model).targets)


@pytest.fixture(scope="module")
def base(model: Path, adapter: Path) -> Base:
    base = load_base(model)
    load_adapter(base, "candidate", adapter)
    return base


def test_the_recorded_log_probabilities_are_those_of_a_plain_peft_model(base: Base, model: Path, adapter: Path) -> None:
    expected = by_peft(model, adapter, PROMPTS)
    found = smoke_cases(base, [case.token_ids for case in expected])
    assert [case.token_ids for case in found] == [case.token_ids for case in expected]
    for mine, theirs in zip(found, expected, strict=True):
        assert len(mine.logprobs) == len(mine.token_ids) - 1
        assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)


def test_the_base_itself_would_not_pass_for_the_candidate(base: Base, model: Path, adapter: Path) -> None:
    [case, *_] = smoke_cases(base, [case.token_ids for case in by_peft(model, adapter, PROMPTS)])
    without = sequence_logprobs(base, case.token_ids, None)
    assert max(abs(a - b) for a, b in zip(case.logprobs, without, strict=True)) > 0.1


def test_a_single_token_is_no_case(base: Base) -> None:
    assert smoke_cases(base, [[5], []]) == []


def test_of_long_answers_the_end_is_kept(base: Base) -> None:
    gate = [[make_sampled(list(range(100)), list(range(100, 300)))]]
    [sequence] = smoke_sequences(SimpleNamespace(base=base), gate)  # type: ignore[arg-type]  # all that is read of it
    assert sequence == list(range(300))[-SMOKE_TOKENS:]


def test_a_few_answers_are_enough_and_one_of_each_prompt(base: Base) -> None:
    gate = [[make_sampled([number, 1], [2, 3]), make_sampled([number, 1], [4])] for number in range(10)]
    sequences = smoke_sequences(SimpleNamespace(base=base), [[], *gate])  # type: ignore[arg-type]  # as above
    assert sequences == [[number, 1, 2, 3] for number in range(SMOKE_CASES - 1)]
