"""Keeps a lease alive while something long is done under it, and makes sure that one process alone does it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy.exc import SQLAlchemyError
from uuid6 import uuid7

from infra.database.engine import Database
from infra.registry import leases
from infra.registry.errors import LeaseLost
from infra.registry.leases import Lease

log = structlog.get_logger()


@contextmanager
def held(database: Database, lease: Lease, ttl_s: float) -> Iterator[None]:
    """Heartbeats from a thread. Who loses the lease learns it from the fence of its next write."""
    done = threading.Event()
    thread = threading.Thread(target=_beat, args=(database, lease, ttl_s, done), name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def alone(database: Database, name: str, ttl_s: float) -> Iterator[Lease | None]:
    """The lease of that name while the block lasts; None where another process has it. Losing it ends the block."""
    with database.transaction() as session:
        lease = leases.acquire(session, name, f"feedback-{uuid7().hex}", ttl_s)
    if lease is None:
        yield None
        return
    with held(database, lease, ttl_s):
        try:
            yield lease
        except LeaseLost:
            log.warning("lease_taken_over", lease=name)
            return
    with database.transaction() as session:
        leases.release(session, lease)


def _beat(database: Database, lease: Lease, ttl_s: float, done: threading.Event) -> None:
    while not done.wait(ttl_s / 3):
        try:
            with database.transaction() as session:
                leases.heartbeat(session, lease, ttl_s)
        except LeaseLost:
            return
        except SQLAlchemyError as error:
            log.warning("heartbeat_failed", lease=lease.name, error=type(error).__name__)
