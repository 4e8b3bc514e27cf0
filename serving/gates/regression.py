"""What it must still say exactly: the share of passed checks may fall below the champion's by a margin only."""

from infra.contracts.manifests import GateResult
from serving.gates.subject import Subject, against_champion, below, tell

SHOWN = 20  # cases named in a report
NONE_SET = "no checks are set (trainer.regression_file, `thumbwheel gate add-case`)"


def check(subject: Subject) -> GateResult:
    """Blocks only where the cycle was given checks, in a file or from live answers: without any there is nothing it
    could have lost. A stored case that nobody may read any more is no loss of the candidate's."""
    wanted = "regression_file" in subject.wanted or bool(subject.evidence.regressions)
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
        reason=tell(interval, wish, subject) if wanted else NONE_SET,
        evidence={
            "checks": len(subject.evidence.regressions),
            "lost": len(lost),
            "lost_names": lost[:SHOWN],
            "left_out": subject.evidence.regressions_left_out,
        },
    )
