"""One look at a rollout: every monitor is asked, and what they say becomes one verdict."""

from collections.abc import Sequence
from datetime import datetime

from infra.contracts.manifests import Verdict
from infra.contracts.rollouts import Finding, Look, Step
from infra.registry.tallies import Tally
from serving.monitors import guards, pairs, sample_ratio, segments, shadow_judge, vote_rate
from serving.monitors.columns import CHALLENGER, PAIR, SHADOW, Columns
from serving.monitors.limits import Limits
from serving.monitors.planning import smallest_drop
from serving.monitors.subject import Monitor, Subject

MONITORS: tuple[Monitor, ...] = (
    vote_rate.check,
    pairs.check,
    segments.check,
    sample_ratio.check_assignment,
    sample_ratio.check_voting,
    shadow_judge.check,
    *guards.MONITORS,
)


def look(
    steps: Sequence[Step], step: int, tallies: Sequence[Tally], limits: Limits, at: datetime, judge: str | None = None
) -> Look:
    """FAIL where any monitor fails; PASS where the step's margin is ruled out, and a shadow's answers are judged.

    Tallies come in order of `first_at`.
    """
    named = tuple(dict.fromkeys(tally.segment for tally in tallies))
    return examine(Subject(steps, step, Columns.of(tallies), limits, judge, named), at)


def examine(subject: Subject, at: datetime) -> Look:
    """The same of columns."""
    findings = [monitor(subject) for monitor in MONITORS]
    here = subject.rows.where(subject.rows.step_R == subject.step)
    verdict, reason = _verdict(subject, findings)
    return Look(
        at=at,
        step=subject.step,
        votes=int(here.votes_R[here.arm_R == CHALLENGER].sum() + here.choices_R[here.arm_R == PAIR].sum()),
        answers=int(here.answers_R[(here.arm_R == CHALLENGER) | (here.arm_R == SHADOW)].sum()),
        findings=findings,
        smallest_drop=smallest_drop(subject.steps, subject.limits),
        verdict=verdict,
        reason=reason,
    )


def _verdict(subject: Subject, findings: Sequence[Finding]) -> tuple[Verdict, str]:
    """The vote rate says whether to go on, of all and of each segment, in the shadow also the judge; any may stop."""
    votes = findings[0]
    by_segment = next(finding for finding in findings if finding.name == segments.NAME)
    failed = [f"{finding.name}: {finding.reason}" for finding in findings if finding.verdict is Verdict.FAIL]
    if failed:
        return Verdict.FAIL, "; ".join(failed)
    if awaited := shadow_judge.awaited(subject):
        return Verdict.INCONCLUSIVE, f"{shadow_judge.NAME}: {awaited}"
    deciding = by_segment if votes.verdict is Verdict.PASS and by_segment.verdict is not Verdict.PASS else votes
    return deciding.verdict, f"{deciding.name}: {deciding.reason}"
