"""A training's figures, step by step, and what is said of it in the end."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from trainer.world import Words, World, words

Metrics = dict[str, float]  # of one step, under TRL's names
SUMS: Words[tuple[Metrics, Metrics]] = words(tuple[Metrics, Metrics])


@dataclass(slots=True)
class Means:
    """Weighted means of figures that come one forward at a time."""

    sums: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    def add(self, found: Metrics, weight: float = 1.0) -> None:
        for name, value in found.items():
            self.sums[name] = self.sums.get(name, 0.0) + weight * value
            self.weights[name] = self.weights.get(name, 0.0) + weight

    def over(self, world: World) -> "Means":
        """Those of all processes together."""
        if world.size == 1:
            return self
        total = Means()
        for said in world.everyone((self.sums, self.weights), SUMS):
            for mine, theirs in zip((total.sums, total.weights), said, strict=True):
                for name, value in theirs.items():
                    mine[name] = mine.get(name, 0.0) + value
        return total

    def means(self) -> Metrics:
        return {name: total / self.weights[name] for name, total in self.sums.items()}


@dataclass(frozen=True, slots=True)
class Trained:
    """What was trained is on the base, ready to be saved. `history` has one entry per step.

    `stopped` says why there are fewer of them than planned, if so; `metrics` are means over the last quarter;
    `warnings` are what is worth a word to people.
    """

    metrics: Metrics
    history: list[Metrics] = field(default_factory=list)
    stopped: str | None = None
    warnings: tuple[str, ...] = ()


def late_means(history: Sequence[Metrics]) -> Metrics:
    """Over the last quarter of the steps, and of each figure over the steps that have it."""
    late = history[-max(1, len(history) // 4) :]
    names = dict.fromkeys(name for step in late for name in step)
    return {name: fmean(step[name] for step in late if name in step) for name in names}
