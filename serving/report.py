"""One gate report of a candidate, and what it means for the adapter and its cycle."""

import math
from datetime import datetime

from infra.contracts.manifests import GateReport, GateResult, Interval, Verdict
from infra.registry.adapters import AdapterState
from infra.registry.cycles import CycleState
from serving.gates.catalogue import gates_for
from serving.gates.subject import Subject, worst

OUTCOMES = {
    Verdict.PASS: (AdapterState.ACCEPTED, CycleState.ACCEPTED),
    Verdict.FAIL: (AdapterState.BLOCKED, CycleState.BLOCKED),
    Verdict.INCONCLUSIVE: (AdapterState.AWAITING_PERSON, CycleState.AWAITING_PERSON),
}


def make_report(version: str, subject: Subject, at: datetime) -> GateReport:
    """Passes only where every blocking gate did. Raises SettingsError where settings name a gate that isn't there."""
    results = [_readable(gate.check(subject)) for gate in gates_for(subject.settings)]
    verdict = worst([result.verdict for result in results if result.blocking])
    return GateReport(version=version, champion=subject.champion, verdict=verdict, gates=results, decided_at=at)


def summary(report: GateReport) -> str:
    """One line: which blocking gates did not pass, and why."""
    unpassed = [_told(result) for result in report.gates if result.blocking and result.verdict is not Verdict.PASS]
    return "; ".join(unpassed) or "every blocking gate passed"


def _told(result: GateResult) -> str:
    return f"{result.name} {result.verdict}: {result.reason}"


def _readable(result: GateResult) -> GateResult:
    """JSON has no NaN and no infinity: the reason tells of them."""
    evidence = {name: None if _is_strange(value) else value for name, value in result.evidence.items()}
    interval = None if _is_unmeasured(result.interval) else result.interval
    return result.model_copy(update={"evidence": evidence, "interval": interval})


def _is_unmeasured(interval: Interval | None) -> bool:
    return interval is None or any(map(_is_strange, (interval.value, interval.lo, interval.hi)))


def _is_strange(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
