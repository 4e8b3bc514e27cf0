"""Stops a policy that has begun to fool its reward model, and says which of its states to keep.

A reward model is right where its raters' answers were, and a policy learns to leave that place: the reward goes on
rising while what people think of the answers falls (Gao et al. 2022, arXiv 2210.10760). A second reward model of other
raters errs elsewhere, so each step's own samples are scored by it too. All here is arithmetic over a series of
observations, which can be read back from a training's history: see `replayed`.
"""

import math
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import fmean
from typing import Self

from infra.settings import TrainerSettings
from trainer.observation import Gain, Observation

FIRST = 4  # steps whose mean manner and length later ones are compared with
NOTHING = Gain(0.0, 0.0)  # where nothing is held out
WINDOW = 8  # steps: one alone says little
LENGTH_RATIO = 2.0  # times or a half of the first steps' length is worth a warning


class Cause(StrEnum):
    """Why a training was stopped."""

    TURN = "turn"
    KL = "kl"
    PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`best`: the policy that drew this step's samples is the one to keep so far."""

    best: bool
    stop: Cause | None = None
    reason: str = ""
    warnings: Mapping[str, str] = field(default_factory=dict)  # by what has drifted: a probe's name, or length


@dataclass(slots=True)
class Turn:
    """Follows the mean gain of the last steps, and how far it has fallen from where it was highest."""

    recent: deque[Gain] = field(default_factory=lambda: deque(maxlen=WINDOW))
    now: Gain = NOTHING
    best: Gain = NOTHING
    below: int = 0  # steps in a row on which the fall was beyond chance

    def add(self, gain: Gain, z: float) -> bool:
        """Whether this is the best so far. At first the window is whatever there is, with a standard error to match."""
        self.recent.append(gain)
        self.now = Gain(fmean(one.value for one in self.recent), _pooled(self.recent))
        if len(self.recent) == 1 or self.now.value >= self.best.value:
            self.best, self.below = self.now, 0
            return True
        self.below = self.below + 1 if self.fall > z else 0
        return False

    @property
    def fall(self) -> float:
        """In standard errors of the difference; 0 at a new best."""
        lost, se = self.best.value - self.now.value, math.hypot(self.best.se, self.now.se)
        return 0.0 if lost <= 0 else lost / se if se > 0 else math.inf


class Guard:
    """Watches one training from its first step on."""

    def __init__(self, settings: TrainerSettings) -> None:
        self._settings = settings
        self._turn = Turn()
        self._first: list[Observation] = []
        self._recent: list[Observation] = []
        self.best_step = 0

    @classmethod
    def replayed(cls, settings: TrainerSettings, history: Iterable[Mapping[str, float]]) -> Self:
        """As it stood after those steps."""
        guard = cls(settings)
        for step, metrics in enumerate(history):
            guard.observe(step, Observation.read(metrics))
        return guard

    def observe(self, step: int, seen: Observation) -> Verdict:
        """Steps come in order. KL counts before all else: a state beyond the budget is never one to keep."""
        budget = self._settings.policy_kl_budget
        if budget and seen.kl > budget:
            return Verdict(best=False, stop=Cause.KL, reason=self._over_budget(step, seen.kl))
        best = self._turn.add(self._worth(seen), self._settings.policy_guard_z)
        if best:
            self.best_step = step
        warnings = self._drifts(seen)
        if self._turned():
            return Verdict(best, Cause.TURN, self._lost(step), warnings)
        if warnings and self._settings.policy_guard_probes == "stop":
            return Verdict(best, Cause.PROBE, f"step {step}: {', '.join(warnings.values())}; {self._kept()}", warnings)
        return Verdict(best, warnings=warnings)

    @property
    def still_gaining(self) -> bool:
        """Whether the last step seen was the best so far, so that what its update made may be better still."""
        return self._turn.now == self._turn.best

    def metrics(self) -> dict[str, float]:
        return {"guard/worth": self._turn.now.value, "guard/best_step": float(self.best_step)}

    def _worth(self, seen: Observation) -> Gain:
        """What was gained less its price: far from the start two reward models of one base are wrong together."""
        if seen.held_out is None:
            return NOTHING
        return Gain(seen.held_out.value - self._settings.policy_guard_kl_price * seen.kl, seen.held_out.se)

    def _turned(self) -> bool:
        return self._settings.policy_guard and self._turn.below >= self._settings.policy_guard_patience

    def _lost(self, step: int) -> str:
        turn = self._turn
        return (
            f"step {step}: the held-out reward has turned: its gain over the start, less its price in KL, was"
            f" {turn.best.value:.2f} and is {turn.now.value:.2f}, {turn.fall:.1f} standard errors less; {self._kept()}"
        )

    def _over_budget(self, step: int, kl: float) -> str:
        budget = self._settings.policy_kl_budget
        return f"step {step}: {kl:.2f} nats per answer from the anchor, the budget is {budget:g}; {self._kept()}"

    def _kept(self) -> str:
        return f"the policy that step {self.best_step} began with is kept"

    def _drifts(self, seen: Observation) -> dict[str, str]:
        """Of the last steps' manner and length against the first ones'."""
        if len(self._first) < FIRST:
            self._first.append(seen)
        self._recent = [*self._recent[1 - FIRST :], seen]
        if len(self._recent) < FIRST:
            return {}
        then, now = _mean(self._first), _mean(self._recent)
        found = {
            name: f"{name} went from {then.rates[name]:.0%} to {rate:.0%} of answers"
            for name, rate in now.rates.items()
            if abs(rate - then.rates[name]) > self._settings.policy_guard_drift
        }
        if not 1 / LENGTH_RATIO <= now.length / then.length <= LENGTH_RATIO:
            found["length"] = f"answers went from {then.length:.0f} to {now.length:.0f} tokens"
        return found


def _mean(seen: list[Observation]) -> Observation:
    names = seen[0].rates.keys()
    return Observation(
        kl=fmean(one.kl for one in seen),
        length=fmean(one.length for one in seen),
        rates={name: fmean(one.rates[name] for one in seen) for name in names},
    )


def _pooled(gains: Collection[Gain]) -> float:
    """The standard error of the mean of means."""
    return math.sqrt(sum(gain.se**2 for gain in gains)) / len(gains)
