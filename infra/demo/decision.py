"""The simulated operator: what it does with a cycle that waits for a person, by one stated rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

RULE = (
    "A waiting version goes live when no blocking gate failed and, on the estimates alone, the independent judge does "
    "not prefer the champion and no more exact checks were lost than the margin allows; otherwise it is declined."
)
JUDGE, REGRESSION = "judge", "regression"


@dataclass(frozen=True, slots=True)
class Decision:
    promote: bool
    reason: str


def decide(gates: Sequence[Mapping[str, Any]]) -> Decision:
    """`gates` are the rows of a gate report. A judge that measured nothing is no reason to promote."""
    failed = [gate["name"] for gate in gates if gate["blocking"] and gate["verdict"] == "fail"]
    if failed:
        return Decision(False, f"declined by the operator's rule: {', '.join(failed)} failed")
    measured = {gate["name"]: gate for gate in gates if gate.get("interval")}
    judged, checked = (measured.get(name) for name in (JUDGE, REGRESSION))
    if judged is None or judged["interval"]["value"] < 0.5:
        return Decision(False, "declined by the operator's rule: the judge does not prefer it")
    if checked and checked["interval"]["value"] > checked["threshold"]:
        lost = f"{checked['interval']['value']:.1%} of the checks"
        return Decision(False, f"declined by the operator's rule: it lost {lost}, by the estimate")
    open_gates = [gate["name"] for gate in gates if gate["blocking"] and gate["verdict"] != "pass"]
    value = f"{judged['interval']['value']:.2f}"
    return Decision(True, f"promoted by the operator's rule: {', '.join(open_gates)} inconclusive, judge {value}")


def verdicts(gates: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {str(gate["name"]): str(gate["verdict"]) for gate in gates}
