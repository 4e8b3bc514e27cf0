"""One cycle as the demo lives it: raters vote, a version is trained and gated, and the swap is timed under load."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from infra.clock import now
from infra.demo.decision import Decision, decide
from infra.demo.operators import NEAR_A_SWAP, Operator
from infra.demo.traffic import Traffic
from infra.registry.cycles import CycleState

PATIENCE_S = 20.0  # for a rollout to begin once its cycle has ended, and for a request to meet it


@dataclass(frozen=True, slots=True)
class Swap:
    """Milliseconds from the acceptance of a promotion; the drain is what the old version took to fall silent."""

    swap_ms: float
    drain_ms: float | None


@dataclass(frozen=True, slots=True)
class Turn:
    """What one cycle came to. `swap` is None where nothing new was served."""

    cycle: dict[str, Any]
    dataset: dict[str, Any] | None
    adapter: dict[str, Any] | None
    gates: list[dict[str, Any]]
    decision: str
    swap: Swap | None


async def turn(operator: Operator, traffic: Traffic, show: Callable[[int, int, str], None], timeout_s: float) -> Turn:
    """Triggers a cycle and follows it until what it made is live or declined."""
    since = now()

    def look(cycle: Mapping[str, Any]) -> None:
        if CycleState(cycle["state"]) in NEAR_A_SWAP:
            traffic.hurry()
        progress = cycle.get("progress") or {}
        show(int(progress.get("step", 0)), int(progress.get("total", 1)), str(cycle["state"]))

    cycle = await operator.run_cycle(look, timeout_s)
    try:
        return await _settle(operator, traffic, cycle, since)
    finally:
        traffic.calm()


async def _settle(operator: Operator, traffic: Traffic, cycle: dict[str, Any], since: datetime) -> Turn:
    version = cycle["version"]
    dataset = await operator.get(f"datasets/{cycle['dataset_id']}") if cycle["dataset_id"] else None
    if version is None:
        return Turn(cycle, dataset, None, [], f"no version: {cycle['reason']}", None)
    adapter = await operator.get(f"adapters/{version}")
    gates: list[dict[str, Any]] = (adapter.get("gates") or {}).get("gates", [])
    decision = await _decide(operator, cycle, gates)
    swap = await timed_swap(operator, traffic, version, since) if decision.promote else None
    return Turn(cycle, dataset, adapter, gates, decision.reason, swap)


async def _decide(operator: Operator, cycle: Mapping[str, Any], gates: list[dict[str, Any]]) -> Decision:
    """Only a cycle that waits for a person is the operator's; the product has decided all others."""
    if cycle["state"] == CycleState.ACCEPTED:
        return Decision(True, "promoted by itself: every blocking gate passed")
    if cycle["state"] != CycleState.AWAITING_PERSON:
        return Decision(False, f"{cycle['state']}: {cycle['reason']}")
    decision = decide(gates)
    if decision.promote:
        await operator.shell.run("promote", cycle["version"], "--reason", decision.reason)
    return decision


async def timed_swap(operator: Operator, traffic: Traffic, version: str, since: datetime) -> Swap | None:
    """Waits for the rollout to `version` and for the first request that it answers."""
    rollout = await operator.rollout_of(version, since, PATIENCE_S)
    if rollout is None or rollout["state"] != "done":
        return None
    accepted = datetime.fromisoformat(rollout["requested_at"]).timestamp()
    first = await traffic.first_start(version, accepted, PATIENCE_S)
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
