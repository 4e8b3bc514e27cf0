"""Leases with heartbeat and fencing epoch: a process that was paused and comes back can change nothing."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from infra.clock import now
from infra.database.tables import LeaseRow
from infra.registry.errors import LeaseLost


@dataclass(frozen=True, slots=True)
class Lease:
    """What its holder shows with every write. `epoch` grows with every take-over."""

    name: str
    holder: str
    epoch: int


def cycle_lease(cycle_id: str) -> str:
    return f"cycle:{cycle_id}"


def acquire(session: Session, name: str, holder: str, ttl_s: float) -> Lease | None:
    """The lease, or None while somebody else's is alive."""
    row = session.scalar(select(LeaseRow).where(LeaseRow.name == name).with_for_update())
    if row is not None and row.expires_at > now() and row.holder != holder:
        return None
    expires_at = now() + timedelta(seconds=ttl_s)
    if row is None:
        session.add(LeaseRow(name=name, holder=holder, epoch=1, expires_at=expires_at))
        session.flush()
        return Lease(name, holder, 1)
    row.holder, row.epoch, row.expires_at = holder, row.epoch + 1, expires_at
    return Lease(name, holder, row.epoch)


def heartbeat(session: Session, lease: Lease, ttl_s: float) -> None:
    """Raises LeaseLost."""
    _fenced(session, lease).expires_at = now() + timedelta(seconds=ttl_s)


def fence(session: Session, lease: Lease) -> None:
    """Raises LeaseLost. Call it first in every transaction that writes under the lease."""
    _fenced(session, lease)


def release(session: Session, lease: Lease) -> None:
    """Lets the next one in at once; raises LeaseLost."""
    _fenced(session, lease).expires_at = now()


def is_live(session: Session, name: str) -> bool:
    row = session.get(LeaseRow, name)
    return row is not None and row.expires_at > now()


def _fenced(session: Session, lease: Lease) -> LeaseRow:
    row = session.scalar(select(LeaseRow).where(LeaseRow.name == lease.name).with_for_update())
    if row is None or (row.holder, row.epoch) != (lease.holder, lease.epoch):
        raise LeaseLost(f"{lease.holder} no longer holds {lease.name} (epoch {lease.epoch})")
    return row
