"""Cycles of a real registry, in any state."""

from typing import Any

from infra.database.tables import CycleRow
from infra.ports import Ports
from infra.registry import cycles, leases
from infra.registry.cycles import CycleState
from infra.registry.leases import Lease

TRAINER_PATH = [
    CycleState.SNAPSHOTTING,
    CycleState.SFT,
    CycleState.REWARD,
    CycleState.POLICY,
    CycleState.EVALUATING,
    CycleState.PUBLISHING,
]


def make_cycle(ports: Ports, *, state: CycleState = CycleState.SFT, alias: str = "assistant", **overrides: Any) -> str:
    """A cycle that feedback has brought as far as `state`; its lease is free."""
    with ports.database.transaction() as session:
        row = cycles.trigger(session, tenant="default", alias=alias, actor="test", settings=overrides)
        lease = leases.acquire(session, leases.cycle_lease(row.cycle_id), "test", 10)
        assert lease is not None
        for target in TRAINER_PATH:
            if CycleState(row.state) is state:
                break
            cycles.advance(session, lease, row.cycle_id, target)
        leases.release(session, lease)
        return row.cycle_id


def hold(ports: Ports, cycle_id: str, holder: str = "worker-1", ttl_s: float = 10) -> Lease:
    with ports.database.transaction() as session:
        lease = leases.acquire(session, leases.cycle_lease(cycle_id), holder, ttl_s)
    assert lease is not None
    return lease


def cycle_row(ports: Ports, cycle_id: str) -> CycleRow:
    with ports.database.reading() as session:
        return cycles.get(session, cycle_id)
