"""Builders for tests that train: settings that suit a tiny model, a base, and a taste that is easy to learn."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from infra.settings import TrainerSettings
from tests.support.tiny_model import Kind, make_tiny_model
from trainer.data import Preference, Prompt
from trainer.lines import Encoded
from trainer.model import Base, adapter_parameters, attach_adapter, load_base

WORDS = ["the", "cosine", "of", "x", "returns", "a", "list", "string", "value", "when", "called", "with", "math"]


def make_settings(**overrides: Any) -> TrainerSettings:
    tiny = {
        "lora_rank": 4,
        "lora_alpha": 8,
        "reward_rank": 4,
        "reward_learning_rate": 1e-3,
        "policy_learning_rate": 1e-3,
        "policy_steps": 2,
        "policy_prompts": 4,
        "policy_samples": 4,
        "policy_minibatch": 16,
        "policy_max_new_tokens": 12,
        "policy_kl_budget": 0,
        "max_length": 128,
    }
    return TrainerSettings.model_validate({**tiny, **overrides})


def make_base(directory: Path, *, kind: Kind = "llama", adapters: Sequence[str] = (), seed: int = 0) -> Base:
    """The adapters get different weights each; B is zero, so that they change nothing yet."""
    base = load_base(make_tiny_model(directory / f"model-{kind}", kind=kind))
    for number, name in enumerate(adapters):
        attach_adapter(base, name, rank=4, alpha=8, seed=seed + number)
    return base


def disturb(base: Base, name: str, seed: int = 0) -> None:
    """Makes an adapter count: a fresh one changes nothing."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in adapter_parameters(base, name):
        parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def make_message(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def make_prompt(text: str = "What does math.cos do?", **overrides: Any) -> Prompt:
    return Prompt(**{"messages": [{"role": "user", "content": text}], **overrides})


def make_pair(chosen: str = "a list", rejected: str = "a string value when called", **overrides: Any) -> Preference:
    sides = {"prompt": make_prompt(), "chosen": make_message(chosen), "rejected": make_message(rejected)}
    return Preference(**{**sides, **overrides})


def make_short_pairs(count: int, seed: int = 0) -> list[Preference]:
    """The shorter answer is always liked better."""
    rng = random.Random(seed)
    return [
        make_pair(" ".join(rng.choices(WORDS, k=2)), " ".join(rng.choices(WORDS, k=9)), rater=f"rater-{number % 7}")
        for number in range(count)
    ]


def make_row(prompt: Sequence[int] = (3, 45, 78, 1, 4), answer: Sequence[int] = (60, 61, 62, 1)) -> Encoded:
    return Encoded(prompt, answer)
