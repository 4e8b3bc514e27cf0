"""A training's figures, step by step, and what is said of it in the end."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean


@dataclass(slots=True)
class Means:
    """Weighted means of figures that come one forward at a time."""

    sums: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    def add(self, found: dict[str, float], weight: float = 1.0) -> None:
        for name, value in found.items():
            self.sums[name] = self.sums.get(name, 0.0) + weight * value
            self.weights[name] = self.weights.get(name, 0.0) + weight

    def means(self) -> dict[str, float]:
        return {name: total / self.weights[name] for name, total in self.sums.items()}


def late_means(history: Sequence[dict[str, float]]) -> dict[str, float]:
    """Over the last quarter of the steps, and of each figure over the steps that have it."""
    late = history[-max(1, len(history) // 4) :]
    names = dict.fromkeys(name for step in late for name in step)
    return {name: fmean(step[name] for step in late if name in step) for name in names}
