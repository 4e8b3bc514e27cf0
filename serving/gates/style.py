"""Behaviour probes (refusals, questions, hedges, ...) may move only so far in one step."""

from infra.contracts.manifests import GateResult, Interval, Verdict
from serving.gates.subject import Subject, against_champion, tell, within, worst


def check(subject: Subject) -> GateResult:
    """One verdict over all probes; the interval shown is that of the probe that moved most for its limit.

    A probe that has a limit of its own and was not measured is inconclusive.
    """
    limits = _limits(subject)
    probes = {name: against_champion(subject, subject.evidence.probes.get(name)) for name in limits}
    verdicts = {name: within(probes[name], -most, most) for name, most in limits.items()}
    moved = max(probes, key=lambda name: _moved(probes[name], limits[name]), default=None)
    wish = f"each probe's rate may move by {subject.settings.style_drift_max:g}"
    if moved is not None:
        wish = f"{moved}: its rate may move by {limits[moved]:g}"
    interval = probes[moved] if moved is not None else None
    return GateResult(
        name="style",
        blocking=True,
        verdict=worst(list(verdicts.values())),
        threshold=subject.settings.style_drift_max,
        interval=interval,
        reason=_telling(verdicts) + tell(interval, wish, subject),
        evidence={"verdicts": verdicts, "limits": limits, "rates": subject.evidence.probe_rates},
    )


def _limits(subject: Subject) -> dict[str, float]:
    """Of every probe that was measured, or has a limit of its own."""
    most, own = subject.settings.style_drift_max, subject.settings.style_drift_limits
    return {name: own.get(name, most) for name in [*subject.evidence.probes, *own]}


def _moved(interval: Interval | None, limit: float) -> float:
    return abs(interval.value) / limit if interval is not None else 0.0


def _telling(verdicts: dict[str, Verdict]) -> str:
    failed = [name for name, verdict in verdicts.items() if verdict is Verdict.FAIL]
    return f"{', '.join(failed)} moved too far: " if failed else ""
