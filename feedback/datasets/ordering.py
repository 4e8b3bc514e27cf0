"""What a snapshot that is wanted now has to hold: everything acknowledged by now, and the answers it waits for."""

from datetime import timedelta

from feedback.datasets.cut import Cutter
from feedback.datasets.snapshot import Order
from feedback.intake import repository
from infra.clock import now
from infra.database.engine import Database

LATELY_S = 30  # a vote older than this no longer makes a snapshot wait for its answer


def order_now(database: Database, cutter: Cutter, tenant: str, alias: str) -> Order:
    """Raises CutNotReached or Stopping."""

    def waiting() -> int:
        with database.reading() as session:
            return repository.pending_since(session, tenant, now() - timedelta(seconds=LATELY_S))

    return Order(tenant, alias, as_of=now(), cut=cutter.settled(waiting))
