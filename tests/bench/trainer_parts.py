"""PPO's parts, each timed by itself: what a loop of PPO should cost together, sampling apart; prints a JSON line.

TRL has no PPO any more. These are plain transformers and PEFT over the same samples: the reference's, the policy's, the
reward model's and the value model's pass, then the epochs of updates of policy and value. Rows of like length share a
forward, and the head runs on answers alone.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.bench.trainer_bare import Bare, Batch, Sample, batches
from tests.bench.trainer_meter import Meter
from tests.bench.trainer_work import CLIP, EPOCHS, POLICY_BETA, RATE, Place, Work

HEAD_RATE = 10  # times the LoRA's, as in trainer/optimizing.py
LAMBDA, VALUE_CLIP = 0.95, 0.2
TOKENS = 4096  # of one forward with gradient, padding counted


class Parts:
    """The clock of each part."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.meters: dict[str, Meter] = {}

    def of(self, name: str) -> AbstractContextManager[None]:
        return self.meters.setdefault(name, Meter(self._device)).on()


class Ppo:
    """One run of PPO in parts. S: a step's samples."""

    def __init__(self, place: Place) -> None:
        self.place, self.bare, self.parts = place, Bare(place), Parts(place.work.device)
        lora, value = self.bare.parameters("policy"), self.bare.parameters("value")
        head = list(self.bare.value.parameters())
        self._policy, self._value = lora, [*value, *head]
        groups = [{"params": value, "lr": RATE}, {"params": head, "lr": HEAD_RATE * RATE}]
        self._optimizers = [
            torch.optim.AdamW(lora, lr=RATE, weight_decay=0.0, fused=True),
            torch.optim.AdamW(groups, weight_decay=0.0, fused=True),
        ]

    def step(self, rows: Sequence[Sample]) -> float:
        """Returns the mean of the epochs' policy losses."""
        bare, parts = self.bare, self.parts
        cut = [(at, Batch([rows[index] for index in at], bare.device)) for at in batches(rows, 2 * TOKENS)]
        with torch.no_grad():
            with parts.of("reference"):
                reference = _by_row(cut, lambda batch: bare.logps(batch, None))
            with parts.of("policy"):
                old = _by_row(cut, lambda batch: bare.logps(batch, "policy"))
            with parts.of("value"):
                values = _by_row(cut, bare.values)
            with parts.of("reward"):
                scores = {
                    index: score for at, batch in cut for index, score in zip(at, bare.scores(batch), strict=True)
                }
        with parts.of("updates"):
            aims = _advantages(old, reference, values, scores)
            return sum(self._epoch(rows, old, values, *aims) for _ in range(EPOCHS)) / EPOCHS

    def _epoch(self, rows: Any, old: Any, values: Any, advantages: Any, returns: Any) -> float:
        tokens, loss = sum(len(ids) for _, ids in rows), 0.0
        for at in batches(rows, TOKENS):
            batch = Batch([rows[index] for index in at], self.bare.device)
            old_N, old_values_N, gains_N, returns_N = (
                torch.cat([of[index] for index in at]) for of in (old, values, advantages, returns)
            )
            ratios_N = (self.bare.logps(batch, "policy") - old_N).exp()
            clipped_N = ratios_N.clamp(1 - CLIP, 1 + CLIP) * gains_N
            part = -torch.min(ratios_N * gains_N, clipped_N).sum() / tokens
            part.backward()
            now_N = self.bare.values(batch)
            held_N = torch.clamp(now_N, old_values_N - VALUE_CLIP, old_values_N + VALUE_CLIP)
            off_N = torch.max((now_N - returns_N).square(), (held_N - returns_N).square()) / 2
            (off_N.sum() / tokens).backward()
            loss += float(part.detach())
        for optimizer, parameters in zip(self._optimizers, (self._policy, self._value), strict=True):
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss


def _by_row(cut: Sequence[tuple[list[int], Batch]], of: Callable[[Batch], Tensor]) -> dict[int, Tensor]:
    return {index: part for at, batch in cut for index, part in zip(at, of(batch).split(batch.lengths), strict=True)}


def _advantages(old: Any, reference: Any, values: Any, scores: Any) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """GAE without discount, of -beta times KL and the score at the end; advantages are whitened over all tokens."""
    gains, returns = {}, {}
    for index, values_T in values.items():
        rewards_T = -POLICY_BETA * (old[index] - reference[index])
        rewards_T[-1] += scores[index]
        deltas = (rewards_T + torch.cat([values_T[1:], values_T.new_zeros(1)]) - values_T).tolist()
        running, found = 0.0, []
        for delta in reversed(deltas):
            running = delta + LAMBDA * running
            found.append(running)
        gains[index] = torch.tensor(found[::-1], device=values_T.device)
        returns[index] = gains[index] + values_T
    everything = torch.cat(list(gains.values()))
    return {at: (gain - everything.mean()) * (everything.var() + 1e-8).rsqrt() for at, gain in gains.items()}, returns


def steps(work: Work, place: Place) -> Iterator[list[Sample]]:
    """Each step's samples, prompts in the order in which our side asked for them."""
    found, order = place.rows, json.loads(place.order.read_text())
    for at in range(0, len(order), work.batch):
        picked = [found[index] for index in order[at : at + work.batch]]
        yield [(row["prompt_ids"], ids) for row in picked for ids in row["answer_ids"]]


def main(place: Place) -> None:
    work = place.work
    torch.set_num_threads(work.threads)
    ppo, whole = Ppo(place), Meter(work.device)
    whole.begin()
    losses = [ppo.step(rows) for rows in steps(work, place)]
    parts = {name: meter.read(0.0)["seconds"] for name, meter in ppo.parts.meters.items()}
    for meter in ppo.parts.meters.values():
        whole.add(meter)
    sys.stdout.write(json.dumps({**whole.read(sum(losses) / len(losses)), "parts": parts}) + "\n")


if __name__ == "__main__":
    main(Place(Path(sys.argv[1]), sys.argv[2]))
