"""A reward model of other raters, which the policy was not optimised against, must not prefer the champion."""

from infra.contracts.manifests import GateResult
from serving.gates.subject import Subject, above, against_champion, tell


def check(subject: Subject) -> GateResult:
    """Non-inferiority: the win rate's lower bound is above a margin somewhat under one half."""
    interval, margin = against_champion(subject, subject.evidence.judge_win_rate), subject.settings.judge_margin
    return GateResult(
        name="judge",
        blocking=True,
        verdict=above(interval, margin),
        threshold=margin,
        interval=interval,
        reason=tell(interval, f"the win rate must not be below {margin:g}", subject),
    )
