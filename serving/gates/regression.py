"""What it must still say exactly: the share of passed checks may fall below the champion's by a margin only."""

from infra.contracts.manifests import GateResult
from serving.gates.subject import Subject, against_champion, below, tell

SHOWN = 20  # cases named in a report


def check(subject: Subject) -> GateResult:
    """Blocks only where the cycle was given checks: with none set there is nothing it could have lost."""
    wanted = "regression_file" in subject.wanted
    interval = against_champion(subject, subject.evidence.regression_drop)
    margin = subject.settings.regression_margin
    lost = [case.name for case in subject.evidence.regressions if case.champion_passed and not case.passed]
    wish = f"the share of passed checks may fall by {margin:g}"
    return GateResult(
        name="regression",
        blocking=wanted,
        verdict=below(interval, margin),
        threshold=margin,
        interval=interval,
        reason=tell(interval, wish, subject) if wanted else "no checks are set (trainer.regression_file)",
        evidence={"checks": len(subject.evidence.regressions), "lost": len(lost), "lost_names": lost[:SHOWN]},
    )
