"""Tells a gradient that must not be applied from a usual one."""

import math
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from trainer.errors import TrainerError

EXPLODED = 1000.0  # times the usual norm of a gradient; a bad batch of a good run stays within tens
LEAST = 1.0  # what usual is at least: below it nothing is clipped, and a reward that just began to tell is no explosion
USUAL = 20  # steps before a norm is usual or not


class Diverged(TrainerError):
    """A step's loss or gradient is no number, or far too large. Nothing of the step was applied."""


@dataclass
class Norms:
    """Of one optimizer's last steps."""

    seen: list[float] = field(default_factory=list)

    def check(self, norm: float) -> None:
        """Raises Diverged."""
        if not math.isfinite(norm):
            raise Diverged(f"the gradient is not finite ({norm})")
        usual = max(LEAST, median(self.seen)) if len(self.seen) >= USUAL else math.inf
        if norm > EXPLODED * usual:
            raise Diverged(f"the gradient's norm is {norm:.3g}, usual was {usual:.3g}")
        self.seen = [*self.seen[1 - USUAL :], norm]

    def state_dict(self) -> dict[str, Any]:
        return {"seen": list(self.seen)}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self.seen = list(state["seen"])
