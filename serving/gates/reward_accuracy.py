"""Advice: a reward model that can't tell held-out raters' choices apart has taught the policy little."""

from infra.contracts.manifests import GateResult
from serving.gates.subject import Subject, above, tell


def check(subject: Subject) -> GateResult:
    interval, least = subject.evidence.reward_accuracy, subject.settings.reward_accuracy_min
    return GateResult(
        name="reward_accuracy",
        blocking=False,
        verdict=above(interval, least),
        threshold=least,
        interval=interval,
        reason=tell(interval, f"at least {least:g} on held-out raters is good"),
    )
