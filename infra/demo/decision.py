"""The simulated operator: what it does with a cycle that waits for a person, by one stated rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

RULE = (
    "A waiting version goes live when no blocking gate failed and the independent judge, on its estimate alone, "
    "does not prefer the champion; otherwise it is declined."
)
JUDGE = "judge"


@dataclass(frozen=True, slots=True)
class Decision:
    promote: bool
    reason: str


def decide(gates: Sequence[Mapping[str, Any]]) -> Decision:
    """`gates` are the rows of a gate report. A judge that measured nothing is no reason to promote."""
    failed = [gate["name"] for gate in gates if gate["blocking"] and gate["verdict"] == "fail"]
    if failed:
        return Decision(False, f"declined by the operator's rule: {', '.join(failed)} failed")
    open_gates = [gate["name"] for gate in gates if gate["blocking"] and gate["verdict"] != "pass"]
    judged = next((gate["interval"] for gate in gates if gate["name"].startswith(JUDGE) and gate.get("interval")), None)
    if judged is None or judged["value"] < 0.5:
        return Decision(False, "declined by the operator's rule: the judge does not prefer it")
    value = f"{judged['value']:.2f}"
    return Decision(True, f"promoted by the operator's rule: {', '.join(open_gates)} inconclusive, judge {value}")


def verdicts(gates: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {str(gate["name"]): str(gate["verdict"]) for gate in gates}
