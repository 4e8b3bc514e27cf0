"""The loop of the methods that learn from answers that are there already: SFT, DPO and KTO.

What the reference says of each answer never changes, so it is asked once, before the first step.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.batches import all_logprobs, make_batch, token_logprobs_of
from trainer.checkpoints import Checkpoints, Stateful
from trainer.history import Trained
from trainer.lines import Encoded
from trainer.loop import AdapterState, run_steps
from trainer.methods.policy import PolicyContext
from trainer.model import Base, adapter_parameters, using
from trainer.optimizing import Optimiser, cosine, shuffled_batches, threads
from trainer.parts import PartLoss, accumulate
from trainer.progress import Progress

Units = Sequence[Sequence[Encoded]]


def passes(lengths: Sequence[int], size: int, epochs: int, *, seed: int, alike: bool = True) -> list[list[int]]:
    """Which rows each step takes: of like length, to waste less on padding, or just as they come."""
    return [
        batch
        for epoch in range(epochs)
        for batch in shuffled_batches(lengths, size, seed=seed + epoch, window=16 if alike else 1)
    ]


def train_on_rows(
    base: Base,
    adapter: str,
    steps: Sequence[tuple[Units, PartLoss]],
    *,
    rate: float,
    progress: Progress,
    checkpoints: Checkpoints,
) -> Trained:
    """Trains `adapter` in place, one update for each of `steps`."""
    optimizer = Optimiser((adapter_parameters(base, adapter), rate), world=base.world)

    def step(index: int) -> dict[str, float]:
        metrics = accumulate(base, adapter, *steps[index])
        return {**metrics, "grad_norm": optimizer.step(cosine(index, len(steps)))}

    state: dict[str, Stateful] = {"adapter": AdapterState(base, adapter), "optimizer": optimizer}
    return run_steps(len(steps), step, state, progress, checkpoints)


def train_preferences(context: PolicyContext, steps: Sequence[tuple[Units, PartLoss]]) -> Trained:
    """The same, of the context's adapter."""
    with threads(context.settings.threads):
        return train_on_rows(
            context.base,
            context.adapter,
            steps,
            rate=context.settings.preference_learning_rate,
            progress=context.progress,
            checkpoints=context.checkpoints,
        )


def reference_logprobs(context: PolicyContext, rows: Sequence[Encoded]) -> Tensor:
    """[B] nats per answer under the anchor."""
    with using(context.base, context.anchor):
        return torch.stack([logps_T.sum() for logps_T in all_logprobs(context.base, rows)])


def answer_sums(base: Base, rows: Sequence[Encoded]) -> Tensor:
    """[B] nats per answer under the adapter that is on."""
    batch = make_batch(base, rows)
    return batch.sums(token_logprobs_of(base, batch))
