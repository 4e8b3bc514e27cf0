"""Its files are sound, every engine has it loaded, and computes with it what the trainer did."""

from infra.contracts.manifests import GateResult, Verdict
from serving.gates.subject import Subject


def check(subject: Subject) -> GateResult:
    """A candidate whose evidence holds no smoke cases was never compared: inconclusive."""
    verdict, reason = _judge(subject)
    evidence = {"smoke_difference": subject.difference, "smoke_cases": len(subject.evidence.smoke)}
    threshold = subject.settings.smoke_tolerance
    return GateResult(
        name="validity", blocking=True, verdict=verdict, threshold=threshold, reason=reason, evidence=evidence
    )


def _judge(subject: Subject) -> tuple[Verdict, str]:
    if subject.refusal is not None:
        return Verdict.FAIL, subject.refusal
    if not subject.evidence.smoke or subject.difference is None:
        return Verdict.INCONCLUSIVE, "no log-probabilities of the trainer to compare the engine's with"
    tolerance = subject.settings.smoke_tolerance
    passed = subject.difference <= tolerance
    reason = f"engine and trainer differ by {subject.difference:.2g} nats, allowed are {tolerance:g}"
    return Verdict.PASS if passed else Verdict.FAIL, reason
