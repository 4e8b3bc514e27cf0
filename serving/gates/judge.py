"""A reward model of other raters, which the policy was not optimised against, must not prefer the champion."""

from infra.contracts.manifests import GateResult
from serving.gates.subject import Subject, above, against_champion, tell, worst


def check(subject: Subject) -> GateResult:
    """Non-inferiority twice: the lower bound of the win rate is above a margin somewhat under one half, and at equal
    lengths above a wider one. A candidate that wins by length alone fails there.
    """
    settings, evidence = subject.settings, subject.evidence
    raw = against_champion(subject, evidence.judge_win_rate)
    controlled = against_champion(subject, evidence.judge_controlled)
    verdicts = [above(raw, settings.judge_margin), above(controlled, settings.judge_controlled_margin)]
    wish = f"the win rate must not be below {settings.judge_margin:g}"
    equal = tell(controlled, f"it must not be below {settings.judge_controlled_margin:g}", subject)
    return GateResult(
        name="judge",
        blocking=True,
        verdict=worst(verdicts),
        threshold=settings.judge_margin,
        interval=raw,
        reason=f"{tell(raw, wish, subject)}; at equal lengths {equal}",
        evidence={
            "controlled": controlled.model_dump() if controlled else None,
            "controlled_threshold": settings.judge_controlled_margin,
            "verdicts": dict(zip(("raw", "controlled"), verdicts, strict=True)),
        },
    )
