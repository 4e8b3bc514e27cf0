"""Answers that grow or shrink manyfold are the oldest way to please a reward model."""

from infra.contracts.manifests import GateResult
from serving.gates.subject import Subject, against_champion, tell, within


def check(subject: Subject) -> GateResult:
    interval, most = against_champion(subject, subject.evidence.length_ratio), subject.settings.length_ratio_max
    return GateResult(
        name="length",
        blocking=True,
        verdict=within(interval, 1 / most, most),
        threshold=most,
        interval=interval,
        reason=tell(interval, f"allowed are {1 / most:.2g} to {most:g} times the champion's length", subject),
    )
