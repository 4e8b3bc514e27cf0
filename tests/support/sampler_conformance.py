"""What every sampler must do, whoever writes the samples. The adapter under test must write otherwise than the base."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.training import make_prompt
from trainer.batches import all_logprobs
from trainer.data import Prompt, encode_prompt
from trainer.errors import TrainerError
from trainer.lines import Encoded
from trainer.model import Base, using
from trainer.sampling import Sampled, Sampler

TOLERANCE = 2e-4  # nats: two correct float32 sums


def draw(sampler: Sampler, prompts: Sequence[Prompt], **overrides: Any) -> list[list[Sampled]]:
    wanted = {"adapter": None, "n": 3, "temperature": 1.0, "top_p": 1.0, "max_tokens": 8, "seed": 1, **overrides}
    return sampler.sample(prompts, **wanted)


def prompts_of_several_lengths() -> list[Prompt]:
    return [make_prompt("Hi"), make_prompt("What does math.cos do with a list of strings?"), make_prompt("Join?")]


class SamplerConformance:
    """Subclasses give `sampler`, `base` and `adapter` (a saved one that is not trivial) as fixtures."""

    def test_every_prompt_gets_its_samples_in_order(self, sampler: Sampler, base: Base) -> None:
        prompts = prompts_of_several_lengths()
        drawn = draw(sampler, prompts)
        assert [len(group) for group in drawn] == [3, 3, 3]
        for prompt, group in zip(prompts, drawn, strict=True):
            assert all(list(answer.prompt_ids) == encode_prompt(base.tokenizer, prompt) for answer in group)

    def test_log_probabilities_are_the_trainer_s_own(self, sampler: Sampler, base: Base) -> None:
        answers = [answer for group in draw(sampler, prompts_of_several_lengths()) for answer in group]
        expected = all_logprobs(base, [Encoded(answer.prompt_ids, answer.token_ids) for answer in answers])
        for answer, logps_T in zip(answers, expected, strict=True):
            assert list(answer.logprobs) == pytest.approx(logps_T.tolist(), abs=TOLERANCE)

    def test_an_answer_ends_with_the_end_token_or_is_truncated(self, sampler: Sampler, base: Base) -> None:
        answers = [answer for group in draw(sampler, prompts_of_several_lengths(), n=8) for answer in group]
        for answer in answers:
            assert answer.truncated == (answer.token_ids[-1] not in base.end_ids)
            assert not base.end_ids & set(answer.token_ids[:-1])
            assert len(answer.token_ids) == len(answer.logprobs) <= 8
            assert not answer.truncated or len(answer.token_ids) == 8
        assert any(answer.truncated for answer in answers)

    def test_temperature_zero_decodes_greedily(self, sampler: Sampler) -> None:
        first, second = (
            draw(sampler, [make_prompt("Hi")], n=1, temperature=0.0),
            draw(sampler, [make_prompt("Hi")], n=1, temperature=0.0, seed=9),
        )
        assert first[0][0].token_ids == second[0][0].token_ids

    def test_a_published_adapter_writes_and_a_retired_name_is_gone(
        self, sampler: Sampler, base: Base, adapter: Path
    ) -> None:
        sampler.publish("train-1-0", adapter)
        drawn = draw(sampler, [make_prompt("Hi")], adapter="train-1-0", n=4)[0]
        sampler.retire("train-1-0")
        with pytest.raises(TrainerError, match="train-1-0"):
            draw(sampler, [make_prompt("Hi")], adapter="train-1-0")
        self.check_adapter_wrote(base, drawn)

    def check_adapter_wrote(self, base: Base, drawn: Sequence[Sampled]) -> None:
        rows = [Encoded(answer.prompt_ids, answer.token_ids) for answer in drawn]
        with using(base, "disturbed"):
            expected = all_logprobs(base, rows)
        bare = all_logprobs(base, rows)
        for answer, logps_T in zip(drawn, expected, strict=True):
            assert list(answer.logprobs) == pytest.approx(logps_T.tolist(), abs=TOLERANCE)
        assert any(abs(float((logps_T - bare_T).sum())) > 0.01 for logps_T, bare_T in zip(expected, bare, strict=True))
