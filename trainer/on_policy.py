"""What methods that learn from their own samples share: drawing them with the exact adapter under training."""

import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from typing import Literal

import torch
from torch import Tensor

from trainer.data import Prompt
from trainer.errors import StageFailed
from trainer.lines import Encoded
from trainer.loop import Course
from trainer.methods.policy import PolicyContext
from trainer.model import save_adapter
from trainer.norms import Diverged
from trainer.sampling import Sampled
from trainer.transformers_sampler import TransformersSampler
from trainer.world import ALONE, Words, words

Drawn = list[list[Sampled]]
DRAWN: Words[Drawn] = words(Drawn)

START = -1  # the step of what is drawn before the first one


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


class Drawer:
    """Draws each step's samples, or finds those that were drawn before the process was killed.

    Of several processes each draws a share, and has everything in the end. From a sharded base in memory each draws
    all of it: every process is needed in every forward.
    """

    def __init__(self, context: PolicyContext) -> None:
        """Raises StageFailed where samples are to be drawn meanwhile by the very model that is trained."""
        settings = context.settings
        if settings.policy_overlap and not context.needed_sampler.apart:
            raise StageFailed("trainer.policy_overlap needs an engine: the model in memory can't draw while it learns")
        course = Course(context.needed_prompts, settings.policy_prompts, seed=context.seed)
        self._prompts = list(islice(course, settings.policy_steps))
        self._context, self._sampler, self._world = context, context.needed_sampler, context.base.world
        in_memory = isinstance(self._sampler, TransformersSampler)
        self._dealt = ALONE if settings.shard_base and in_memory else self._world
        self._held: dict[int, Drawn] = {}

    def take(self, step: int) -> Samples:
        """This step's; drawn by the policy as it is now, unless they are there."""
        drawn = self._known(step)
        if drawn is None:
            with self._published(step):
                drawn = self._collect(step, self._sample(step), self._prompts[step])
        self._held.pop(step, None)
        return as_samples(drawn)

    @property
    def asked(self) -> list[Prompt]:
        """Every prompt that some step asks, once."""
        return list({id(prompt): prompt for step in self._prompts for prompt in step}.values())

    def start(self, prompts: Sequence[Prompt], count: int) -> Samples:
        """Before the first step: `count` answers to each of these."""
        drawn: Drawn | None = self._context.checkpoints.samples(START)
        if drawn is None:
            with self._published(START):
                drawn = self._collect(START, self._answers(START, prompts, count), prompts)
        return as_samples(drawn)

    @contextmanager
    def drawing(self, step: int) -> Iterator[None]:
        """Draws that later step's samples, by the policy as it is now, while the block runs."""
        if step >= len(self._prompts) or self._known(step) is not None:
            yield
            return
        with self._published(step), ThreadPoolExecutor(1, "sampling") as thread:
            drawing = thread.submit(self._sample, step)
            yield
            self._held[step] = self._collect(step, drawing.result(), self._prompts[step])

    def _known(self, step: int) -> Drawn | None:
        return self._held.get(step) or self._context.checkpoints.samples(step)

    @contextmanager
    def _published(self, step: int) -> Iterator[None]:
        """The adapter as it is now, under the step's name, which is retired afterwards.

        One that fails waits for nobody: it ends, and the others end with it.
        """
        name, directory = self._name(step), self._context.directory / self._name(step)
        if self._world.leads:
            save_adapter(self._context.base, self._context.adapter, directory)
        self._world.wait()
        self._sampler.publish(name, directory)
        self._world.wait()
        try:
            yield
            self._world.wait()
        finally:
            self._sampler.retire(name)
            shutil.rmtree(directory, ignore_errors=True)  # only now: an engine may read it while the name is known

    def _sample(self, step: int) -> Drawn:
        return self._answers(step, self._prompts[step], self._context.settings.policy_samples)

    def _answers(self, step: int, prompts: Sequence[Prompt], count: int) -> Drawn:
        """This process's share."""
        settings, world = self._context.settings, self._dealt
        place = settings.policy_steps if step == START else step
        return self._sampler.sample(
            prompts[world.rank :: world.size],
            adapter=self._name(step),
            n=count,
            temperature=1.0,
            top_p=1.0,
            max_tokens=settings.policy_max_new_tokens,
            seed=self._context.seed * 1_000_003 + place * 10_007 + world.rank * 101,
        )

    def _collect(self, step: int, mine: Drawn, prompts: Sequence[Prompt]) -> Drawn:
        """All processes' samples, in the order of the prompts; on disk before anything is learnt from them."""
        shares, size = self._world.everyone(mine, DRAWN), self._dealt.size
        drawn = [shares[at % size][at // size] for at in range(len(prompts))]
        self._context.checkpoints.keep_samples(step, drawn)
        return drawn

    def _name(self, step: int) -> str:
        return f"{self._context.samples_name}_{'start' if step == START else step}"


def as_samples(drawn: Drawn) -> Samples:
    """Raises Diverged where a log-probability is no number: the policy that wrote it is not one any more."""
    answers = [answer for group in drawn for answer in group]
    if not all(isfinite(logprob) for answer in answers for logprob in answer.logprobs):
        raise Diverged("the policy's samples have log-probabilities that are not finite")
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
