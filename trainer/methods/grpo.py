"""GRPO: several samples per prompt, each against the mean of its own group. Shao et al. 2024, arXiv 2402.03300.

What differs from the paper: the loss is a mean over tokens, not answers first; the ratio is to pi_old as the trainer
computes it, times a truncated pi_old / pi_sampler, since the engine that sampled rounds differently.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import torch
from torch import Tensor

from trainer.batches import Encoded, all_logprobs, answer_logprobs, in_batches, make_batch, pad
from trainer.losses import group_advantages, grpo_loss, truncated_importance
from trainer.methods.policy import PolicyContext, PolicyResult
from trainer.model import adapter_parameters, using
from trainer.on_policy import Samples, draw_samples, prompt_course, settle_truncated
from trainer.optimizing import apply_gradients, threads

TOKENS_WITH_GRADIENT = 4096  # with padding, per forward; a minibatch of more is accumulated


@dataclass(frozen=True, slots=True)
class Scored:
    """A step's samples with all that stays fixed while the policy moves. S: samples, prompt by prompt."""

    rows: Sequence[Encoded]
    rewards_S: Tensor
    advantages_S: Tensor
    kept_S: Tensor
    sampler_logps: Sequence[Tensor]
    anchor_logps: Sequence[Tensor]
    old_logps: Sequence[Tensor] | None  # None: the only update of this step, where pi_old is pi itself


@dataclass(slots=True)
class Updates:
    """Numbers of a step's forwards and optimizer steps, for the log."""

    loss: list[float] = field(default_factory=list)
    kl: list[float] = field(default_factory=list)
    clip_fraction: list[float] = field(default_factory=list)
    importance: list[float] = field(default_factory=list)
    grad_norm: list[float] = field(default_factory=list)


def train(context: PolicyContext) -> PolicyResult:
    """Trains `context.adapter` in place. Metrics are the means over the last quarter of the steps."""
    settings, history = context.settings, []
    parameters = adapter_parameters(context.base, context.adapter)
    optimizer = torch.optim.AdamW(parameters, lr=settings.policy_learning_rate, weight_decay=0.0)
    course = prompt_course(context.needed_prompts, settings.policy_prompts, seed=context.seed)
    with threads(settings.threads):
        for step in range(settings.policy_steps):
            began = time.monotonic()
            samples = draw_samples(context, next(course), step)
            sampled = time.monotonic()
            scored = score(context, samples)
            updates = _update(context, scored, optimizer, step)
            metrics = _metrics(samples, scored, updates)
            metrics |= {"time/sampling": sampled - began, "time/training": time.monotonic() - sampled}
            history.append(metrics)
            context.progress(step + 1, settings.policy_steps, metrics)
    last = history[-max(1, len(history) // 4) :]
    return PolicyResult({name: fmean(step[name] for step in last) for name in last[0]}, history)


def score(context: PolicyContext, samples: Samples) -> Scored:
    """Rewards, advantages and the log-probabilities that the updates compare with."""
    base, settings, rows = context.base, context.settings, samples.rows
    with using(base, context.anchor):
        anchor_logps = all_logprobs(base, rows)
    base_logps = anchor_logps if context.anchor is None else None
    rewards_S = context.needed_reward.score_encoded(rows, base_logps)
    settled_S, kept_S = settle_truncated(rewards_S, samples.truncated_S, settings.policy_truncated_answers)
    advantages_PG = group_advantages(settled_S.view(-1, settings.policy_samples))
    old_logps = None
    if settings.policy_epochs > 1 or settings.policy_minibatch < len(rows):
        with using(base, context.adapter):
            old_logps = all_logprobs(base, rows)
    return Scored(rows, settled_S, advantages_PG.flatten(), kept_S, samples.sampler_logps, anchor_logps, old_logps)


def _update(context: PolicyContext, scored: Scored, optimizer: torch.optim.Optimizer, step: int) -> Updates:
    updates = Updates()
    parameters = adapter_parameters(context.base, context.adapter)
    for picked in _minibatches(context, len(scored.rows), step):
        tokens = sum(len(scored.rows[index].answer) for index in picked if scored.kept_S[index])
        if tokens == 0:
            continue
        for part in in_batches([scored.rows[index] for index in picked], TOKENS_WITH_GRADIENT):
            _accumulate(context, scored, [picked[index] for index in part], tokens, updates)
        updates.grad_norm.append(apply_gradients(optimizer, parameters))
    return updates


def _accumulate(context: PolicyContext, scored: Scored, picked: list[int], tokens: int, updates: Updates) -> None:
    """One forward and its backward; `tokens` are all of the minibatch's, over which the loss is a mean."""
    settings, device = context.settings, context.base.device
    batch = make_batch([scored.rows[index] for index in picked], device)
    kept_BT = batch.mask_BT & scored.kept_S[picked].to(device)[:, None]

    def fixed(logps: Sequence[Tensor]) -> Tensor:
        return pad([logps[index].to(device) for index in picked], batch.mask_BT.shape[1])

    with using(context.base, context.adapter):
        logps_BT = answer_logprobs(context.base, batch)
        old_BT = logps_BT.detach() if scored.old_logps is None else fixed(scored.old_logps)
        importance_BT = truncated_importance(old_BT, fixed(scored.sampler_logps), settings.policy_truncate)
        found = grpo_loss(
            logps_BT,
            old_BT,
            scored.advantages_S[picked].to(device),
            kept_BT.float(),
            reference_logps_BT=fixed(scored.anchor_logps),
            importance_BT=importance_BT,
            clip=settings.policy_clip,
            beta=settings.policy_beta,
        )
        (found.loss * (kept_BT.sum() / tokens)).backward()
    updates.loss.append(float(found.loss.detach()))
    updates.kl.append(found.kl)
    updates.clip_fraction.append(found.clip_fraction)
    updates.importance.append(float(importance_BT[batch.mask_BT].mean()))


def _minibatches(context: PolicyContext, count: int, step: int) -> Iterator[list[int]]:
    generator = torch.Generator().manual_seed(context.seed * 1_000_003 + step)
    for _ in range(context.settings.policy_epochs):
        for part in torch.randperm(count, generator=generator).split(context.settings.policy_minibatch):
            yield part.tolist()


def _metrics(samples: Samples, scored: Scored, updates: Updates) -> dict[str, float]:
    """TRL's names. `objective/kl` is in nats per answer: samples' log pi_sampler minus log pi_anchor, summed."""
    pairs = zip(samples.sampler_logps, scored.anchor_logps, strict=True)
    return {
        "reward": float(scored.rewards_S.mean()),
        "reward_std": float(scored.rewards_S.view(-1).std()),
        "objective/kl": fmean(float((mine - anchor.cpu()).sum()) for mine, anchor in pairs),
        "kl": fmean(updates.kl or [0.0]),
        "loss": fmean(updates.loss or [0.0]),
        "policy/clipfrac_avg": fmean(updates.clip_fraction or [0.0]),
        "sampling/importance_sampling_ratio/mean": fmean(updates.importance or [1.0]),
        "grad_norm": fmean(updates.grad_norm or [0.0]),
        "completions/mean_length": samples.mean_length,
        "completions/clipped_ratio": float(samples.truncated_S.float().mean()),
    }
