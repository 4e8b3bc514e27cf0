"""Tallies as columns: what the monitors compute with. Axis R is the rows, in the order in which the raters came."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from infra.registry.tallies import Tally, TallyArm

ARMS = tuple(TallyArm)
CHAMPION, CHALLENGER, PAIR, SHADOW = (
    ARMS.index(arm) for arm in (TallyArm.CHAMPION, TallyArm.CHALLENGER, TallyArm.PAIR, TallyArm.SHADOW)
)

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Columns:
    """One row for each rater, arm and step. Raters and segments are numbers, arms places in `ARMS`."""

    step_R: Codes
    arm_R: Codes
    unit_R: Codes
    segment_R: Codes
    share_R: Floats
    weight_R: Floats
    answers_R: Floats
    failed_R: Floats
    rateable_R: Floats
    tokens_R: Floats
    seconds_R: Floats
    refusals_R: Floats
    votes_R: Floats
    ups_R: Floats
    choices_R: Floats
    wins_R: Floats
    judgeable_R: Floats
    judged_R: Floats
    judge_wins_R: Floats

    @classmethod
    def of(cls, tallies: Sequence[Tally]) -> Self:
        columns: dict[str, Any] = {
            "step_R": np.array([tally.step for tally in tallies], np.int64),
            "arm_R": np.array([ARMS.index(tally.arm) for tally in tallies], np.int64),
            "unit_R": _codes(tally.unit for tally in tallies),
            "segment_R": _codes(tally.segment for tally in tallies),
        }
        measured = [field.name for field in fields(cls) if field.name not in columns]
        for name in measured:
            columns[name] = np.array([getattr(tally, name.removesuffix("_R")) for tally in tallies], np.float64)
        return cls(**columns)

    def where(self, kept_R: Mask | Codes) -> Self:
        return type(self)(**{field.name: getattr(self, field.name)[kept_R] for field in fields(self)})

    @property
    def challenger_R(self) -> Mask:
        is_challenger_R: Mask = self.arm_R == CHALLENGER
        return is_challenger_R

    @property
    def stratum_R(self) -> Codes:
        """Step and segment: raters are compared with those of their own."""
        return self.step_R * (int(self.segment_R.max(initial=0)) + 1) + self.segment_R


def _codes(names: Iterable[str]) -> Codes:
    known: dict[str, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], np.int64)
