"""What is still to come: the stages of a run, how long each took on two cores, and so how long is left."""

from collections.abc import Sequence
from dataclasses import dataclass

from infra.demo.plan import Plan

LEAST_PACE = 0.25  # nobody's machine is that much faster: a stage that had nothing to do says little about the next


@dataclass(frozen=True, slots=True)
class Stage:
    name: str
    label: str
    expected_s: float


def agenda(plan: Plan, cycles: int) -> list[Stage]:
    expected = plan.expected_s
    stages = [
        Stage("base", "build a base model from docstrings", expected["base"]),
        Stage("start", "start the stack", expected["start"]),
        Stage("report_base", "ask the base the report questions", expected["report"]),
    ]
    for number in range(1, cycles + 1):
        stages += [
            Stage(f"votes_{number}", f"cycle {number}: raters chat and vote", expected["votes"]),
            Stage(f"cycle_{number}", f"cycle {number}: learn, check, swap", expected["cycle"]),
            Stage(f"report_{number}", f"cycle {number}: ask the report questions", expected["report"]),
        ]
    return [*stages, Stage("rollback", "roll back and forward again", expected["rollback"])]


def left_s(stages: Sequence[Stage], spent: dict[str, float], current: str, elapsed_s: float) -> float:
    """Seconds to go: what is expected of the rest, scaled by how fast or slow the stages so far were here."""
    done = [stage for stage in stages if stage.name in spent]
    planned = sum(stage.expected_s for stage in done)
    pace = max(LEAST_PACE, sum(spent[stage.name] for stage in done) / planned) if planned else 1.0
    rest = sum(stage.expected_s for stage in stages if stage.name not in spent) * pace
    here = next((stage.expected_s * pace for stage in stages if stage.name == current), 0.0)
    return max(0.0, rest - min(elapsed_s, here))
