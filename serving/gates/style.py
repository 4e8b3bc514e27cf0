"""Behaviour probes (refusals, questions, hedges, ...) may move only so far in one step."""

from infra.contracts.manifests import GateResult, Interval, Verdict
from serving.gates.subject import Subject, against_champion, tell, within, worst


def check(subject: Subject) -> GateResult:
    """One verdict over all probes; the interval shown is that of the probe that moved most."""
    most = subject.settings.style_drift_max
    probes = {name: found for name in subject.evidence.probes if (found := _measured(subject, name))}
    verdicts = {name: within(interval, -most, most) for name, interval in probes.items()}
    moved = max(probes, key=lambda name: abs(probes[name].value), default=None)
    interval = probes[moved] if moved is not None else None
    wish = f"each probe's rate may move by {most:g}"
    return GateResult(
        name="style",
        blocking=True,
        verdict=worst(list(verdicts.values())),
        threshold=most,
        interval=interval,
        reason=_telling(verdicts) + tell(interval, f"{moved or 'no probe'}: {wish}", subject),
        evidence={"verdicts": verdicts, "rates": subject.evidence.probe_rates},
    )


def _measured(subject: Subject, name: str) -> Interval | None:
    return against_champion(subject, subject.evidence.probes[name])


def _telling(verdicts: dict[str, Verdict]) -> str:
    failed = [name for name, verdict in verdicts.items() if verdict is Verdict.FAIL]
    return f"{', '.join(failed)} moved too far: " if failed else ""
