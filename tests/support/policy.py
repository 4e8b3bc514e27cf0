"""What a policy method's tests need beside a base: rewards by rule, samplers that go wrong, a filled-in context."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.support.training import make_base, make_prompt, make_settings
from trainer.data import Prompt
from trainer.lines import Encoded
from trainer.methods.policy import PolicyContext
from trainer.model import Base
from trainer.sampling import Sampled
from trainer.transformers_sampler import TransformersSampler

OF_METHODS = ("policy_", "ppo_", "preference_", "dpo_", "kto_", "reward_")  # settings
WORDS = ("Hi", "Join?", "What does math.cos do?", "How are you today?", "cosine", "a list")


class RuleReward:
    """Stands in for a reward model: a rule over the answer's token ids."""

    def __init__(self, rule: Callable[[Sequence[int]], float]) -> None:
        self._rule = rule

    def score_encoded(self, rows: Sequence[Encoded], base_logps: Sequence[Tensor] | None = None) -> Tensor:
        return torch.tensor([self._rule(row.answer) for row in rows])


def shorter_is_better(answer: Sequence[int]) -> float:
    return -float(len(answer))


def make_talkative(directory: Path, *adapters: str) -> Base:
    """A base with many end tokens and large logits: its random answers end by themselves, and it can learn to."""
    base = make_base(directory, adapters=adapters)
    assert base.model.generation_config is not None
    base.model.generation_config.eos_token_id = list(range(100, 160))
    base.head.weight.data.mul_(8)
    return base


def indifferent(_answer: Sequence[int]) -> float:
    return 1.0


class NotingSampler(TransformersSampler):
    """Samples from the model in memory and notes what it is told; `shift` is added to each log-probability."""

    def __init__(self, base: Base, *, shift: float = 0.0) -> None:
        super().__init__(base)
        self.published: list[str] = []
        self.retired: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self._shift = shift

    def publish(self, name: str, directory: Path) -> None:
        self.published.append(name)
        super().publish(name, directory)

    def retire(self, name: str) -> None:
        self.retired.append(name)
        super().retire(name)

    def sample(self, prompts: Sequence[Prompt], **wanted: Any) -> list[list[Sampled]]:
        self.calls.append({"prompts": list(prompts), **wanted})
        return [[self._shifted(answer) for answer in group] for group in super().sample(prompts, **wanted)]

    def _shifted(self, answer: Sampled) -> Sampled:
        logprobs = [value + self._shift for value in answer.logprobs]
        return Sampled(answer.prompt_ids, answer.token_ids, logprobs, answer.finish_reason, answer.text)


def make_prompts() -> list[Prompt]:
    return [make_prompt(text, prompt_id=f"p{number}") for number, text in enumerate(WORDS)]


def make_context(base: Base, directory: Path, **overrides: Any) -> PolicyContext:
    """Training of the adapter `policy` against a liking for short answers; settings may be given by their names."""
    names = {name: overrides.pop(name) for name in list(overrides) if name.startswith(OF_METHODS)}
    fields = {
        "base": base,
        "adapter": "policy",
        "anchor": None,
        "settings": make_settings(**names),
        "seed": 0,
        "directory": directory,
        "samples_name": "train-1-1",
        "sampler": TransformersSampler(base),
        "reward": RuleReward(shorter_is_better),
        "prompts": make_prompts(),
    }
    return PolicyContext(**{**fields, **overrides})
