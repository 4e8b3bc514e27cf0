"""What every monitor sees."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from infra.contracts.manifests import Interval
from infra.contracts.rollouts import Finding, Step, StepKind
from serving.monitors.columns import CHALLENGER, CHAMPION, SHADOW, Columns
from serving.monitors.limits import Limits
from serving.monitors.scores import Sums


@dataclass(frozen=True)
class Subject:
    """A rollout in its step number `step`, and all that it has seen so far. `judge` is who reads mirrored answers;
    `segments` are the names of the codes."""

    steps: Sequence[Step]
    step: int
    rows: Columns
    limits: Limits
    judge: str | None = None
    segments: Sequence[str] = ()

    @property
    def is_shadow(self) -> bool:
        return self.steps[self.step].kind is StepKind.SHADOW

    def segment(self, code: int) -> str:
        return repr(self.segments[code]) if code < len(self.segments) else f"number {code}"

    @cached_property
    def canary(self) -> Columns:
        """Rows of raters whom one of the two arms answered, by a draw of known chance."""
        is_canary_S = np.array([step.kind is StepKind.CANARY for step in self.steps])
        return self.rows.where(is_canary_S[self.rows.step_R] & np.isin(self.rows.arm_R, (CHAMPION, CHALLENGER)))

    @cached_property
    def mirrored(self) -> tuple[Columns, Columns]:
        """Of raters whom both arms answered in a shadow step: what the champion did, and the challenger."""
        shadows = [number for number, step in enumerate(self.steps) if step.kind is StepKind.SHADOW]
        rows = self.rows.where(np.isin(self.rows.step_R, shadows))
        own, mirrored = rows.where(rows.arm_R == CHAMPION), rows.where(rows.arm_R == SHADOW)
        _, own_N, mirrored_N = np.intersect1d(own.unit_R, mirrored.unit_R, return_indices=True)
        return own.where(own_N), mirrored.where(mirrored_N)

    def suffices(self, sums: Sums) -> bool:
        """The boundary is right for many raters; of a handful nothing is concluded."""
        least = self.limits.min_raters
        return sums.challengers >= least and sums.champions >= least


Monitor = Callable[[Subject], Finding]


def tell(interval: Interval | None, wish: str) -> str:
    """The value with its interval, which holds at all looks together."""
    if interval is None:
        return f"nothing to compare yet; {wish}"
    bounds = f"{interval.level:.4g} at all looks: {interval.lo:.3g} to {interval.hi:.3g}"
    return f"{interval.value:.3g} ({bounds}, {interval.n} raters); {wish}"
