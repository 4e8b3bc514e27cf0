"""The loop of the methods that learn from their own samples: draw, score, update, step after step.

GRPO, RLOO and PPO differ in what they make of a step's scores and in the loss on one forward: see `Learner`.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainer.batches import TOKENS_WITH_GRADIENT, Batch, all_logprobs, answer_logprobs, in_batches, make_batch, pad
from trainer.checkpoints import Stateful
from trainer.guarding import Watch
from trainer.history import Means, Metrics, Trained
from trainer.lines import Encoded
from trainer.loop import AdapterState, run_steps
from trainer.losses.policy import Forward, PolicyLoss, Whole, truncated_importance
from trainer.losses.tokens import masked_mean
from trainer.methods.policy import PolicyContext
from trainer.model import adapter_parameters, using
from trainer.on_policy import Drawer, Samples, settle_truncated
from trainer.optimizing import Optimiser, threads

IMPORTANCE = "sampling/importance_sampling_ratio/mean"


@dataclass(frozen=True, slots=True)
class Scored:
    """A step's samples and what stays fixed while the policy moves. S: samples, prompt by prompt."""

    samples: Samples
    rewards_S: Tensor
    kept_S: Tensor
    anchor_logps: Sequence[Tensor]

    @property
    def rows(self) -> Sequence[Encoded]:
        return self.samples.rows

    @property
    def kl_S(self) -> Tensor:
        """Nats per answer: log pi_sampler - log pi_anchor of what was sampled."""
        pairs = zip(self.samples.sampler_logps, self.anchor_logps, strict=True)
        return torch.stack([(mine - anchor.cpu()).sum() for mine, anchor in pairs])


@dataclass(frozen=True, slots=True)
class Forwarded:
    """One forward under the policy, with gradient, of the step's samples `picked`."""

    picked: list[int]
    batch: Batch
    logps_BT: Tensor
    counts: bool = True  # False: another process has these too, and its gradient is the one that counts

    def fixed(self, values: Sequence[Tensor]) -> Tensor:
        """[B, T] of those samples' own values."""
        device, width = self.logps_BT.device, self.batch.mask_BT.shape[1]
        return pad([values[index].to(device) for index in self.picked], width)


@dataclass(frozen=True, slots=True)
class Loss:
    """`total` is this forward's share of the minibatch's loss; metrics are means over what is in it."""

    total: Tensor
    metrics: dict[str, float]


class Learner(ABC):
    """What one method adds to the loop."""

    def __init__(self, context: PolicyContext) -> None:
        self._context = context

    @abstractmethod
    def study(self, scored: Scored) -> dict[str, float]:
        """Takes in a step: advantages, and what else the updates compare with. Returns what is worth a line."""

    @abstractmethod
    def loss(self, forwarded: Forwarded, whole: Whole) -> Loss:
        """Averaged over the whole minibatch, of which this is a part."""

    def beside(self, _forwarded: Forwarded, _whole: Whole) -> dict[str, float]:
        """After the policy's backward: whatever else learns from these samples, with a backward of its own."""
        return {}

    def share_of(self, rows: Sequence[Encoded], whole: Whole) -> float:
        """How much of the minibatch these are, in what the figures are means over: tokens."""
        return sum(len(row.answer) for row in rows) / whole.tokens

    def step(self) -> None:
        """After the policy's own step: a minibatch is complete."""
        return

    def state(self) -> dict[str, Stateful]:
        """What the method changes from step to step beside the policy: it is in the checkpoints."""
        return {}


def train_on_samples(context: PolicyContext, learner: Learner) -> Trained:
    """Trains `context.adapter` in place. `time/sampling` is what was waited for: with overlap it may be nothing."""
    settings, base = context.settings, context.base
    optimizer = Optimiser((adapter_parameters(base, context.adapter), settings.policy_learning_rate), world=base.world)
    drawer = Drawer(context)
    watch = Watch(context, drawer)

    def step(index: int) -> Metrics:
        began = time.monotonic()
        samples = drawer.take(index)
        sampled = time.monotonic()
        with drawer.drawing(index + 1) if settings.policy_overlap else nullcontext():
            scored = score(context, samples)
            watched = watch.look(samples, scored.kl_S)
            studied = learner.study(scored)
            learnt = _update(context, learner, scored, optimizer, index)
            trained = time.monotonic()
        waited = sampled - began + time.monotonic() - trained
        metrics = {**_described(scored), **watched, **studied, **learnt}
        return {**metrics, "time/sampling": waited, "time/training": trained - sampled}

    adapter = AdapterState(base, context.adapter)
    state: dict[str, Stateful] = {"adapter": adapter, "optimizer": optimizer, "watch": watch, **learner.state()}
    with threads(settings.threads):
        found = run_steps(settings.policy_steps, step, state, context.progress, context.checkpoints)
    watch.keep_best()
    return replace(found, warnings=tuple(watch.warnings.values()))


def score(context: PolicyContext, samples: Samples) -> Scored:
    """Rewards, and the log-probabilities under the anchor."""
    base, rows = context.base, samples.rows
    with using(base, context.anchor):
        anchor_logps = all_logprobs(base, rows)
    base_logps = anchor_logps if context.anchor is None else None
    rewards_S = context.needed_reward.score_encoded(rows, base_logps)
    settled_S, kept_S = settle_truncated(rewards_S, samples.truncated_S, context.settings.policy_truncated_answers)
    return Scored(samples, settled_S, kept_S, anchor_logps)


def own_logprobs(context: PolicyContext, rows: Sequence[Encoded]) -> Sequence[Tensor]:
    """log pi_old as the trainer computes it."""
    with using(context.base, context.adapter):
        return all_logprobs(context.base, rows)


def old_logprobs(context: PolicyContext, rows: Sequence[Encoded]) -> Sequence[Tensor] | None:
    """The same; None where the step has one update, whose pi_old is pi itself."""
    once = context.settings.policy_epochs == 1 and context.settings.policy_minibatch >= len(rows)
    return None if once else own_logprobs(context, rows)


def compared(
    context: PolicyContext, forwarded: Forwarded, scored: Scored, old_logps: Sequence[Tensor] | None
) -> Forward:
    """This forward beside the policy that sampled, as the trainer finds it, and the importance of the difference."""
    old_BT = forwarded.logps_BT.detach() if old_logps is None else forwarded.fixed(old_logps)
    sampler_BT = forwarded.fixed(scored.samples.sampler_logps)
    importance_BT = truncated_importance(old_BT, sampler_BT, context.settings.policy_truncate)
    return Forward(forwarded.logps_BT, old_BT, importance_BT, forwarded.batch.mask_BT.float())


def _update(context: PolicyContext, learner: Learner, scored: Scored, optimizer: Optimiser, step: int) -> Metrics:
    found = Means()
    base, rows = context.base, scored.rows
    for minibatch in _minibatches(context, len(rows), step):
        kept = [index for index in minibatch if scored.kept_S[index]]
        if not kept:
            continue
        tokens = sum(len(rows[index].answer) for index in kept)
        whole = Whole(len(kept), tokens, context.settings.policy_max_new_tokens)
        parts = in_batches(base, [rows[index] for index in kept], TOKENS_WITH_GRADIENT)
        for part, counts in base.world.deal(parts):
            picked = [kept[index] for index in part]
            share = learner.share_of([rows[index] for index in picked], whole)
            metrics = _learn(context, learner, scored, picked, whole, counts=counts)
            if counts:
                found.add({**metrics, "loss": metrics["loss"] / share}, share * len(kept))
        found.add({"grad_norm": optimizer.step()})
        learner.step()
    means = found.over(base.world).means()
    return {"loss": 0.0, "grad_norm": 0.0, **means}  # where all answers are masked nothing is updated


def _learn(
    context: PolicyContext, learner: Learner, scored: Scored, picked: list[int], whole: Whole, *, counts: bool
) -> Metrics:
    """One forward and backward, whose gradient is thrown away where it does not count."""
    with using(context.base, context.adapter):
        forwarded = forward(context, scored, picked, counts=counts)
        loss = learner.loss(forwarded, whole)
        (loss.total * counts).backward()
    return {"loss": float(loss.total.detach()), **loss.metrics, **learner.beside(forwarded, whole)}


def forward(context: PolicyContext, scored: Scored, picked: list[int], *, counts: bool = True) -> Forwarded:
    batch = make_batch(context.base, [scored.rows[index] for index in picked])
    return Forwarded(picked, batch, answer_logprobs(context.base, batch), counts)


def _minibatches(context: PolicyContext, count: int, step: int) -> Iterator[list[int]]:
    """A prompt's samples stay together as far as a minibatch has room, so that they share one copy of it."""
    generator = torch.Generator().manual_seed(context.seed * 1_000_003 + step)
    size, together = context.settings.policy_minibatch, context.settings.policy_samples
    for _ in range(context.settings.policy_epochs):
        groups = torch.randperm(count // together, generator=generator)
        order = (groups[:, None] * together + torch.arange(together)).flatten()
        for part in order.split(size):
            yield part.tolist()


def _described(scored: Scored) -> dict[str, float]:
    """TRL's names. `objective/kl` is in nats per answer."""
    return {
        "reward": float(scored.rewards_S.mean()),
        "reward_std": float(scored.rewards_S.std()),
        "objective/kl": float(scored.kl_S.mean()),
        "completions/mean_length": scored.samples.mean_length,
        "completions/clipped_ratio": float(scored.samples.truncated_S.float().mean()),
    }


def figures(now: Forward, found: PolicyLoss) -> dict[str, float]:
    """Means over tokens, or over answers where each is one action. TRL's names."""
    named = {"kl": found.kl, "policy/clipfrac_avg": found.bitten, IMPORTANCE: now.importance}
    return {name: _mean(values.float(), now.mask_BT) for name, values in named.items()}


def _mean(values: Tensor, mask_BT: Tensor) -> float:
    return float(masked_mean(values, mask_BT) if values.shape == mask_BT.shape else values.mean())
