"""One cycle as the demo lives it: raters vote, a version is trained and gated, and the swap is timed under load."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infra.clock import now
from infra.demo.decision import Decision, decide
from infra.demo.operators import NEAR_A_SWAP, Operator, StepTaken
from infra.demo.traffic import Traffic
from infra.registry.cycles import CycleState
from infra.registry.rollouts import RolloutState

TRIAL_PATIENCE_S = 240.0
PATIENCE_S = 20.0  # for a rollout to begin once its cycle has ended, and for a request to meet it


Trial = Callable[[asyncio.Event], Coroutine[None, None, None]]  # what raters do until it is over
Earn = Callable[[str], Awaitable[dict[str, Any] | None]]


@dataclass(frozen=True, slots=True)
class Swap:
    """Milliseconds from the acceptance of a promotion to the first answer; the drain is what the old version took to
    fall silent once the new one answered everybody."""

    swap_ms: float
    drain_ms: float | None


@dataclass(frozen=True, slots=True)
class Turn:
    """What one cycle came to. `swap` is None where nothing new was served; `steps` are those that it was tried by."""

    cycle: dict[str, Any]
    dataset: dict[str, Any] | None
    adapter: dict[str, Any] | None
    gates: list[dict[str, Any]]
    decision: str
    swap: Swap | None
    steps: Sequence[StepTaken] = ()


async def turn(
    operator: Operator, traffic: Traffic, trial: Trial, show: Callable[[int, int, str], None], timeout_s: float
) -> Turn:
    """Triggers a cycle and follows it until what it made answers everybody, or is declined."""
    since = now()

    def look(cycle: Mapping[str, Any]) -> None:
        if CycleState(cycle["state"]) in NEAR_A_SWAP:
            traffic.hurry()
        progress = cycle.get("progress") or {}
        show(int(progress.get("step", 0)), int(progress.get("total", 1)), str(cycle["state"]))

    cycle = await operator.run_cycle(look, timeout_s)
    try:
        return await _settle(operator, traffic, cycle, lambda version: _earn(operator, trial, version, since, show))
    finally:
        traffic.calm()


async def _settle(operator: Operator, traffic: Traffic, cycle: dict[str, Any], earn: Earn) -> Turn:
    version = cycle["version"]
    dataset = await operator.get(f"datasets/{cycle['dataset_id']}") if cycle["dataset_id"] else None
    if version is None:
        return Turn(cycle, dataset, None, [], f"no version: {cycle['reason']}", None)
    adapter = await operator.get(f"adapters/{version}")
    gates: list[dict[str, Any]] = (adapter.get("gates") or {}).get("gates", [])
    decision = await _decide(operator, cycle, gates)
    rollout = await earn(version) if decision.promote else None
    if rollout is None:
        return Turn(cycle, dataset, adapter, gates, decision.reason, None)
    steps, swap = await operator.steps_of(rollout), await _timed(traffic, rollout)
    reason = decision.reason if swap else f"{decision.reason}; but its rollout {rollout['state']}: {rollout['error']}"
    return Turn(cycle, dataset, adapter, gates, reason, swap, steps)


async def _earn(
    operator: Operator, trial: Trial, version: str, since: datetime, show: Callable[[int, int, str], None]
) -> dict[str, Any] | None:
    """Raters go on voting while the version earns its traffic; returns its rollout once that has ended."""
    ended = asyncio.Event()

    def look(rollout: Mapping[str, Any]) -> None:
        seen = rollout["look"] or {}
        show(rollout["step"], len(rollout["steps"]), f"{rollout['state']}, {seen.get('votes', 0)} votes")

    async with asyncio.TaskGroup() as group:
        group.create_task(trial(ended))
        try:
            return await operator.rollout_of(version, since, TRIAL_PATIENCE_S, look)
        finally:
            ended.set()


async def _decide(operator: Operator, cycle: Mapping[str, Any], gates: list[dict[str, Any]]) -> Decision:
    """Only a cycle that waits for a person is the operator's; the product has decided all others."""
    if cycle["state"] == CycleState.ACCEPTED:
        return Decision(True, "promoted by itself: every blocking gate passed")
    if cycle["state"] != CycleState.AWAITING_PERSON:
        return Decision(False, f"{cycle['state']}: {cycle['reason']}")
    decision = decide(gates)
    if decision.promote:
        await operator.shell.run("rollout", "start", cycle["version"], "--reason", decision.reason)
    return decision


async def timed_swap(operator: Operator, traffic: Traffic, version: str, since: datetime) -> Swap | None:
    """Waits for the rollout to `version` and for the first request that it answers."""
    rollout = await operator.rollout_of(version, since, PATIENCE_S)
    return await _timed(traffic, rollout) if rollout else None


async def _timed(traffic: Traffic, rollout: Mapping[str, Any]) -> Swap | None:
    if rollout["state"] != RolloutState.DONE:
        return None
    accepted = datetime.fromisoformat(rollout["requested_at"]).timestamp()
    first = await traffic.first_start(rollout["version"], accepted, PATIENCE_S)
    if first is None:
        return None
    flipped, finished = (datetime.fromisoformat(rollout[name]) for name in ("flipped_at", "finished_at"))
    return Swap(round((first - accepted) * 1000, 1), round((finished - flipped).total_seconds() * 1000, 1))


async def timed_rollback(operator: Operator, traffic: Traffic, served: str, target: str, reason: str) -> float | None:
    """Milliseconds from the command's acceptance to the last request that began on the old version."""
    since = now()
    await operator.shell.run("rollback", "--to", target, "--reason", reason)
    rollout = await operator.rollout_of(target, since, PATIENCE_S)
    if rollout is None or rollout["state"] != "done":
        return None
    accepted = datetime.fromisoformat(rollout["requested_at"]).timestamp()
    if await traffic.first_start(target, accepted, PATIENCE_S) is None:
        return None
    last = traffic.last_start(served)
    return max(0.0, round(((last or time.time()) - accepted) * 1000, 1))
