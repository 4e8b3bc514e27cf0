"""Engines that can be asked for samples now."""

import time

from infra.contracts.routing import Replica, ReplicaState
from infra.database.engine import Database
from infra.registry import fleet

PATIENCE_S = 120.0  # an engine that died is back within 30 to 120 s
POLL_S = 0.5


def ready_replicas(database: Database, patience_s: float = PATIENCE_S) -> list[Replica]:
    """Ready replicas; none only where none was ever registered, or none got ready in time."""
    deadline = time.monotonic() + patience_s
    while True:
        with database.reading() as session:
            known = fleet.replicas(session)
        ready = [replica for replica in known if replica.state is ReplicaState.READY]
        if ready or not known or time.monotonic() > deadline:
            return ready
        time.sleep(POLL_S)
