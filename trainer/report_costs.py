"""A cycle's bill: seconds and tokens by stage, and how much of its time went to anything but learning and measuring."""

from collections.abc import Mapping
from typing import Any

from infra.registry.cycles import TRAINER_STATES, CycleState

COST = "cost"  # where a stage's result holds what it spent
STAGES = (
    CycleState.QUEUED,
    CycleState.SNAPSHOTTING,
    CycleState.SFT,
    CycleState.REWARD,
    CycleState.POLICY,
    CycleState.EVALUATING,
    CycleState.PUBLISHING,
    CycleState.GATING,
)


def bill(seconds: Mapping[str, float], results: Mapping[str, Mapping[str, Any]], device: str) -> dict[str, Any]:
    """`seconds` by state as the registry has them, `results` of the trainer's stages as they were kept.

    A state that isn't over yet has what its own result tells, if that. GPU hours are those that the trainer held the
    device for, whether it kept it busy or not.
    """
    costs = {state: results[state][COST] for state in STAGES if COST in results.get(state, {})}
    stages = {
        state.value: _stage(seconds.get(state), costs.get(state)) for state in STAGES if state in {*seconds, *costs}
    }
    wall_s = sum(stage["seconds"] for stage in stages.values())
    fixed = _fixed(stages)
    held_s = sum(stages[state]["seconds"] for state in TRAINER_STATES if state in stages)
    return {
        "stages": stages,
        "wall_s": round(wall_s, 3),
        "fixed_s": fixed,
        "fixed_share": round(sum(fixed.values()) / wall_s, 4) if wall_s else None,
        "device": device,
        "device_hours": round(held_s / 3600, 5),
        "missing": [state.value for state in STAGES if state not in stages],
    }


def _stage(total_s: float | None, cost: Mapping[str, Any] | None) -> dict[str, Any]:
    if cost is None:
        return {"seconds": total_s}
    spent, tokens = cost["seconds"], cost["tokens"]
    measured_s = sum(spent.values()) if total_s is None else total_s
    return {
        "seconds": round(measured_s, 3),
        "start": round(spent["start"], 3),
        "load": round(spent["load"], 3),
        "learning_tokens": tokens["learning"],
        "reading_tokens": tokens["reading"],
    }


def _fixed(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Start: until somebody took it up, and until the process was there. What publishing loads counts as load."""

    def total(name: str) -> float:
        return sum(float(stage.get(name, 0)) for stage in stages.values())

    def own(state: CycleState) -> float:
        stage = stages.get(state, {})
        return float(stage.get("seconds", 0)) - float(stage.get("start", 0)) - float(stage.get("load", 0))

    found = {
        "start": own(CycleState.QUEUED) + total("start"),
        "load": total("load"),
        "snapshot": own(CycleState.SNAPSHOTTING),
        "publish": own(CycleState.PUBLISHING),
        "validate": own(CycleState.GATING),
    }
    return {name: round(value, 3) for name, value in found.items()}
