"""What every training's steps share: the optimizer, the learning rate's course, seeds and threads."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from trainer.norms import Norms
from trainer.world import ALONE, World

MAX_GRAD_NORM = 1.0
WARMUP_SHARE = 0.05
HEAD_RATE = 10.0  # times the LoRA's rate: a head that starts from zero has the longer way to go

Group = tuple[Sequence[nn.Parameter], float]  # parameters and their learning rate


class Optimiser:
    """AdamW without decay. The parameters of all groups have one gradient norm, which is clipped."""

    def __init__(self, *groups: Group, world: World = ALONE) -> None:
        self._parameters = [parameter for parameters, _ in groups for parameter in parameters]
        self._adam = torch.optim.AdamW(
            [{"params": list(parameters), "lr": rate} for parameters, rate in groups if parameters],
            weight_decay=0.0,
            fused=True,
        )
        self._norms, self._world = Norms(), world

    def step(self, rate: float = 1.0) -> float:
        """With `rate` times the full learning rates. Returns the norm before clipping. Raises Diverged."""
        self._world.add_gradients(self._parameters)
        norm = float(nn.utils.clip_grad_norm_(self._parameters, MAX_GRAD_NORM))
        try:
            self._norms.check(norm)
            set_rates(self._adam, rate)
            self._adam.step()
        finally:
            self._adam.zero_grad(set_to_none=True)
        return norm

    def state_dict(self) -> dict[str, Any]:
        return {"adam": self._adam.state_dict(), "norms": self._norms.state_dict()}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self._adam.load_state_dict(state["adam"])
        self._norms.load_state_dict(state["norms"])


def cosine(step: int, total: int, *, floor: float = 0.0) -> float:
    """Factor on the learning rate at `step` of `total`: a short linear warm-up, then half a cosine down to `floor`."""
    warmup = max(1, round(WARMUP_SHARE * total))
    if step < warmup:
        return (step + 1) / warmup
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Groups remember their own full rate as `initial_lr`."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


@contextmanager
def threads(count: int) -> Iterator[None]:
    """One is best beside a busy engine, whose own it would fight with; where users are few, more are faster."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def shuffled_batches(lengths: Sequence[int], size: int, *, seed: int, window: int = 16) -> list[list[int]]:
    """One pass over all rows: random order, but rows of like length share a batch (sorted within `window` batches)."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    for start in range(0, len(order), size * window):
        picked = sorted(order[start : start + size * window], key=lambda index: lengths[index])
        batches += [picked[i : i + size] for i in range(0, len(picked), size)]
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
