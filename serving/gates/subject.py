"""What every gate sees, and how an interval becomes a verdict."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from infra.contracts.manifests import Evidence, GateResult, Interval, Verdict
from infra.settings import ServingSettings

MATERIAL = frozenset({"regression_file", "canary_file", "safety_file", "general_text_file"})  # settings of the trainer


@dataclass(frozen=True, slots=True)
class Subject:
    """A candidate before its gates. `champion` is the version that it would replace now.

    `refusal` says why it could not be loaded; `difference` is its smoke's, in nats, None where none was taken. `wanted`
    are those files of MATERIAL that the cycle was given: without one, its gate has nothing to say and does not block.
    """

    evidence: Evidence
    champion: str
    settings: ServingSettings
    refusal: str | None = None
    difference: float | None = None
    wanted: frozenset[str] = MATERIAL


Gate = Callable[[Subject], GateResult]


def files_named(settings: Mapping[str, Any]) -> frozenset[str]:
    """Which files these settings of the trainer name, as an adapter's manifest has them."""
    return frozenset(name for name in MATERIAL if settings.get(name))


def below(interval: Interval | None, threshold: float) -> Verdict:
    """Pass where the whole interval is at or below the threshold, fail where it is above."""
    if not _is_measured(interval):
        return Verdict.INCONCLUSIVE
    if interval.hi <= threshold:
        return Verdict.PASS
    return Verdict.FAIL if interval.lo > threshold else Verdict.INCONCLUSIVE


def above(interval: Interval | None, threshold: float) -> Verdict:
    """Pass where the whole interval is at or above the threshold, fail where it is below."""
    if not _is_measured(interval):
        return Verdict.INCONCLUSIVE
    if interval.lo >= threshold:
        return Verdict.PASS
    return Verdict.FAIL if interval.hi < threshold else Verdict.INCONCLUSIVE


def within(interval: Interval | None, lo: float, hi: float) -> Verdict:
    """Pass where the whole interval is inside, fail where it is outside on one side."""
    return worst([above(interval, lo), below(interval, hi)])


def worst(verdicts: list[Verdict]) -> Verdict:
    """Nothing measured is inconclusive."""
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        if verdict in verdicts:
            return verdict
    return Verdict.PASS if verdicts else Verdict.INCONCLUSIVE


def against_champion(subject: Subject, interval: Interval | None) -> Interval | None:
    """A comparison with another champion than the present one says nothing about this change."""
    return interval if subject.evidence.champion == subject.champion else None


def tell(interval: Interval | None, wish: str, subject: Subject | None = None) -> str:
    """`subject` is given where the measurement compares with a champion."""
    if interval is not None:
        share = f"{interval.level:.0%} interval {interval.lo:.3g} to {interval.hi:.3g}"
        return f"{interval.value:.3g} ({share}, n = {interval.n}), {wish}"
    if subject is not None and subject.evidence.champion != subject.champion:
        return f"measured against {subject.evidence.champion or 'nothing'}, the champion is {subject.champion}"
    return f"not measured, {wish}"


def _is_measured(interval: Interval | None) -> TypeGuard[Interval]:
    return interval is not None and math.isfinite(interval.lo) and math.isfinite(interval.hi)
