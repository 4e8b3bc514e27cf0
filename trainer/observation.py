"""What the guard is told of one step: figures of the step's own samples, taken before its update.

They are also the step's entries in the training's history, so that a guard can be rebuilt from there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Self

RATE = "guard/rate/"  # and a probe's name
GAIN, GAIN_SE = "guard/held_out", "guard/held_out_se"
KL, LENGTH = "objective/kl", "completions/mean_length"  # TRL's


@dataclass(frozen=True, slots=True)
class Gain:
    """How much better than the start's answers to the same prompts, in a held-out reward model's log-odds."""

    value: float
    se: float


@dataclass(frozen=True, slots=True)
class Observation:
    """`kl` is in nats per answer to the anchor, `length` in tokens, `rates` are shares of answers by probe."""

    kl: float
    length: float
    rates: Mapping[str, float] = field(default_factory=dict)
    held_out: Gain | None = None

    def metrics(self) -> dict[str, float]:
        """All that `read` needs."""
        found = {KL: self.kl, LENGTH: self.length, **{f"{RATE}{name}": rate for name, rate in self.rates.items()}}
        return found if self.held_out is None else {**found, GAIN: self.held_out.value, GAIN_SE: self.held_out.se}

    @classmethod
    def read(cls, metrics: Mapping[str, float]) -> Self:
        """From a step's entry in the history."""
        rates = {name.removeprefix(RATE): value for name, value in metrics.items() if name.startswith(RATE)}
        held_out = Gain(metrics[GAIN], metrics[GAIN_SE]) if GAIN in metrics else None
        return cls(metrics[KL], metrics[LENGTH], rates, held_out)


def gain_over_start(scores_PG: Sequence[Sequence[float]], starts_P: Sequence[float]) -> Gain | None:
    """`starts_P` is what the start's own answers score on average, prompt by prompt.

    A reward model is free to rate everything about one prompt higher than about another, by more than policies differ:
    only differences within a prompt mean something. Units are prompts. None where there are fewer than two.
    """
    gains = [fmean(scores) - start for scores, start in zip(scores_PG, starts_P, strict=True)]
    return Gain(fmean(gains), stdev(gains) / math.sqrt(len(gains))) if len(gains) > 1 else None
