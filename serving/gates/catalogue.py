"""Which gates a candidate goes through: ours in their order, then those of installed packages by name.

A package brings a gate as an entry point: a function from a `Subject` to a `GateResult`. Ours are declared as entry
points too, for others to see, and taken from the code, since a checkout's metadata may be older than its files.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import EntryPoint, entry_points

import structlog

from infra.contracts.manifests import Evidence, GateResult, Verdict
from infra.settings import ServingSettings, SettingsError
from serving.gates import OWN
from serving.gates.subject import Gate, Subject

GROUP = "thumbwheel.gates"
DISTRIBUTION = "thumbwheel"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class NamedGate:
    """One gate under the name that settings and reports call it by. `advises`: settings took its right to block."""

    name: str
    load: Callable[[], Gate]
    advises: bool = False

    def check(self, subject: Subject) -> GateResult:
        """Never raises: a gate that can't say anything is inconclusive, and blocks unless it only advises."""
        try:
            found = GateResult.model_validate(self.load()(subject))
        except Exception as error:
            log.exception("gate_failed", gate=self.name, version=subject.evidence.version)
            reason = f"the gate itself failed: {type(error).__name__}: {error}"
            found = GateResult(name=self.name, blocking=True, verdict=Verdict.INCONCLUSIVE, reason=reason)
        return found.model_copy(update={"name": self.name, "blocking": found.blocking and not self.advises})


def gates_for(settings: ServingSettings) -> list[NamedGate]:
    """Without those that are off. Raises SettingsError where a setting names no gate, or two gates have one name."""
    known = known_gates()
    _refuse_unknown(settings, [gate.name for gate in known])
    return [
        replace(gate, advises=gate.name in settings.gates_advisory)
        for gate in known
        if gate.name not in settings.gates_off
    ]


def known_gates() -> list[NamedGate]:
    """Raises SettingsError where two have the same name."""
    ours = [NamedGate(name, partial(_itself, gate)) for name, gate in OWN.items()]
    theirs = sorted(filter(_is_foreign, entry_points(group=GROUP)), key=lambda found: found.name)
    named = [*ours, *(NamedGate(found.name, found.load) for found in theirs)]
    _refuse_doubles(named, theirs)
    return named


def asked_of_nothing(gate: NamedGate, settings: ServingSettings, wanted: frozenset[str]) -> GateResult:
    """What a gate says before there is a candidate: whether it would block, and its threshold."""
    nobody = Evidence(version="", champion="")
    return gate.check(Subject(evidence=nobody, champion="", settings=settings, wanted=wanted))


def _itself(gate: Gate) -> Gate:
    return gate


def _is_foreign(found: EntryPoint) -> bool:
    return found.dist is None or found.dist.name != DISTRIBUTION


def _refuse_doubles(named: Iterable[NamedGate], theirs: Iterable[EntryPoint]) -> None:
    doubles = sorted(name for name, count in Counter(gate.name for gate in named).items() if count > 1)
    if doubles:
        places = ", ".join(found.value for found in theirs if found.name == doubles[0])
        raise SettingsError(f"more than one gate is named {doubles[0]}, {places} among them: uninstall or rename one")


def _refuse_unknown(settings: ServingSettings, known: Iterable[str]) -> None:
    for setting in ("gates_off", "gates_advisory"):
        unknown = sorted(set(getattr(settings, setting)) - set(known))
        if unknown:
            raise SettingsError(f"serving.{setting}: there is no gate {unknown[0]}; there are {', '.join(known)}")
