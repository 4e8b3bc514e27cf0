"""The loop of the methods that learn from answers that are there already: DPO and KTO.

What the reference says of each answer never changes, so it is asked once, before the first step.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trainer.batches import Encoded, all_logprobs, answer_logprobs, make_batch
from trainer.history import late_means
from trainer.losses.tokens import masked_sum
from trainer.methods.policy import PolicyContext, PolicyResult
from trainer.model import Base, adapter_parameters, using
from trainer.optimizing import apply_gradients, cosine, set_rates, shuffled_batches, threads

StepLoss = Callable[[list[int]], tuple[Tensor, dict[str, float]]]  # of the rows of one step, the policy being on


def steps(context: PolicyContext, lengths: Sequence[int], *, alike: bool = True) -> list[list[int]]:
    """Which rows each step takes: of like length, to waste less on padding, or just as they come."""
    settings = context.settings
    return [
        batch
        for epoch in range(settings.preference_epochs)
        for batch in shuffled_batches(
            lengths, settings.preference_batch, seed=context.seed + epoch, window=16 if alike else 1
        )
    ]


def train_on_rows(context: PolicyContext, batches: Sequence[list[int]], loss_of: StepLoss) -> PolicyResult:
    """Trains `context.adapter` in place. Metrics are the means over the last quarter of the steps."""
    settings, history = context.settings, []
    parameters = adapter_parameters(context.base, context.adapter)
    optimizer = torch.optim.AdamW(parameters, lr=settings.preference_learning_rate, weight_decay=0.0)
    with threads(settings.threads):
        for step, picked in enumerate(batches):
            set_rates(optimizer, cosine(step, len(batches)))
            with using(context.base, context.adapter):
                loss, metrics = loss_of(picked)
                loss.backward()
            norm = apply_gradients(optimizer, parameters)
            history.append({"loss": float(loss.detach()), **metrics, "grad_norm": norm})
            context.progress(step + 1, len(batches), history[-1])
    return PolicyResult(late_means(history), history)


def reference_logprobs(context: PolicyContext, rows: Sequence[Encoded]) -> Tensor:
    """[B] nats per answer under the anchor."""
    with using(context.base, context.anchor):
        return torch.stack([logps_T.sum() for logps_T in all_logprobs(context.base, rows)])


def answer_sums(base: Base, rows: Sequence[Encoded]) -> Tensor:
    """[B] nats per answer under the adapter that is on."""
    batch = make_batch(rows, base.device)
    return masked_sum(answer_logprobs(base, batch), batch.mask_BT)
