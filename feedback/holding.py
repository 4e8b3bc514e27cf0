"""Keeps a lease alive while something long is done under it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from sqlalchemy.exc import SQLAlchemyError

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


def _beat(database: Database, lease: Lease, ttl_s: float, done: threading.Event) -> None:
    while not done.wait(ttl_s / 3):
        try:
            with database.transaction() as session:
                leases.heartbeat(session, lease, ttl_s)
        except LeaseLost:
            return
        except SQLAlchemyError as error:
            log.warning("heartbeat_failed", lease=lease.name, error=type(error).__name__)
