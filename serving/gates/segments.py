"""What is better for most must not be worse for a few: every segment is measured by itself.

A segment with enough units must stay within the margin by its whole interval. A smaller one, and all small ones
together, block only where they are shown to be worse: they would be undecided for ever.
"""

from collections.abc import Callable, Mapping

from infra.contracts.manifests import GateResult, Interval, SegmentResult, Verdict
from serving.gates.subject import Subject, above, below, worst

Segments = Mapping[str, SegmentResult]
Limit = Callable[[Interval | None], Verdict]


def check_judge(subject: Subject) -> GateResult:
    margin = subject.settings.judge_segment_margin
    known = subject.evidence.judge_segments if subject.evidence.champion == subject.champion else {}
    wish = f"the judge's win rate must not be below {margin:g} in any segment"
    return _result("judge_segments", known, lambda found: above(found, margin), margin, wish)


def check_reward(subject: Subject) -> GateResult:
    """About the reward model that the policy was trained on, so about any champion alike."""
    most, other = subject.settings.reward_fall_max, subject.evidence.reward_falls_from
    wish = f"reward accuracy may fall by {most:g} in any segment" + (f", from {other}" if other else "")
    return _result("reward_segments", subject.evidence.reward_falls, lambda found: below(found, most), most, wish)


def _result(name: str, segments: Segments, limit: Limit, threshold: float, wish: str) -> GateResult:
    verdicts = {segment: limit(found.interval) for segment, found in segments.items()}
    decisive = {s: v for s, v in verdicts.items() if segments[s].enough or v is Verdict.FAIL}
    verdict = worst(list(decisive.values()))
    return GateResult(
        name=name,
        blocking=bool(decisive),
        verdict=verdict,
        threshold=threshold,
        interval=_shown(segments, decisive or verdicts, verdict),
        reason=f"{_telling(segments, verdicts)}, {wish}" if segments else f"no segment was measured, {wish}",
        evidence={"verdicts": verdicts, "small": [s for s, found in segments.items() if not found.enough]},
    )


def _shown(segments: Segments, verdicts: Mapping[str, Verdict], verdict: Verdict) -> Interval | None:
    """Of the first segment that made the verdict what it is."""
    return next((segments[s].interval for s, found in verdicts.items() if found is verdict), None)


def _telling(segments: Segments, verdicts: Mapping[str, Verdict]) -> str:
    return "; ".join(_told(name, found, verdicts[name]) for name, found in segments.items())


def _told(name: str, found: SegmentResult, verdict: Verdict) -> str:
    if found.interval is None:
        return f"{name} {verdict}: too few to measure"
    few = "" if found.enough else f", too few ({found.interval.n}) to block unless shown worse"
    return f"{name} {verdict}: {found.interval.value:.3g} ({found.interval.lo:.3g} to {found.interval.hi:.3g}{few})"
