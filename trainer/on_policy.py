"""What methods that learn from their own samples share: drawing them with the exact adapter under training, scoring."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor

from trainer.batches import Encoded
from trainer.data import Prompt
from trainer.methods.policy import PolicyContext
from trainer.model import save_adapter
from trainer.sampling import Sampled

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class Samples:
    """One step's answers, prompt by prompt. S = prompts times samples per prompt."""

    rows: list[Encoded]
    sampler_logps: list[Tensor]  # one [T] per answer
    truncated_S: Tensor
    texts: list[str]

    @property
    def mean_length(self) -> float:
        return sum(len(row.answer) for row in self.rows) / len(self.rows)


def draw_samples(
    context: PolicyContext, prompts: Sequence[Prompt], step: int | Literal["start"], count: int | None = None
) -> Samples:
    """Publishes the adapter as it is now under `<samples_name>_<step>`, samples, and retires that name.

    `count` answers a prompt, as many as the settings say where it is not given.
    """
    name = f"{context.samples_name}_{step}"
    directory = context.directory / name
    sampler, settings = context.needed_sampler, context.settings
    save_adapter(context.base, context.adapter, directory)
    sampler.publish(name, directory)
    try:
        drawn = sampler.sample(
            prompts,
            adapter=name,
            n=count or settings.policy_samples,
            temperature=1.0,
            top_p=1.0,
            max_tokens=settings.policy_max_new_tokens,
            seed=context.seed * 1_000_003 + (settings.policy_steps if step == "start" else step) * 10_007,
        )
    finally:
        sampler.retire(name)
        shutil.rmtree(directory)  # only now: the engine may read it again while the name is known
    return as_samples(drawn)


def as_samples(drawn: Sequence[Sequence[Sampled]]) -> Samples:
    answers = [answer for group in drawn for answer in group]
    return Samples(
        rows=[Encoded(answer.prompt_ids, answer.token_ids) for answer in answers],
        sampler_logps=[torch.tensor(answer.logprobs) for answer in answers],
        truncated_S=torch.tensor([answer.truncated for answer in answers]),
        texts=[answer.text for answer in answers],
    )


def settle_truncated(
    rewards_S: Tensor, truncated_S: Tensor, treatment: Literal["penalise", "mask"]
) -> tuple[Tensor, Tensor]:
    """Rewards and which answers take part in the loss.

    The reward model never saw an answer without its end. Penalised, a cut answer counts as one standard deviation
    worse than the worst whole one of the step; masked, it takes no part (Yu et al. 2025, arXiv 2503.14476, 3.4).
    """
    everyone_S = torch.ones_like(truncated_S)
    whole = rewards_S[~truncated_S]
    if not truncated_S.any():
        return rewards_S, everyone_S
    if treatment == "mask":
        return rewards_S, ~truncated_S
    spread = whole.std() if len(whole) > 1 else torch.ones(())
    floor = whole.min() - spread if len(whole) else rewards_S.min()
    return rewards_S.masked_fill(truncated_S, float(floor)), everyone_S


def course(things: Sequence[Thing], per_step: int, *, seed: int) -> Iterator[list[Thing]]:
    """Every one of them once in random order, then again in another; steps take what comes next, without end."""
    generator = torch.Generator().manual_seed(seed)
    waiting: list[Thing] = []
    while True:
        while len(waiting) < per_step:
            waiting += [things[index] for index in torch.randperm(len(things), generator=generator).tolist()]
        yield waiting[:per_step]
        waiting = waiting[per_step:]
