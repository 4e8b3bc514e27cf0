"""Answers the questions that gateways write down, and takes away those that are old."""

from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError

from feedback.holding import alone
from feedback.tracing.tracing import Tracing
from infra.clock import now
from infra.contracts.traces import KEPT, Question
from infra.database.engine import Database
from infra.database.tables import TraceRow
from infra.keystore.base import KeyringAway
from infra.registry import leases, traces
from infra.registry.errors import NotFound
from infra.registry.leases import Lease

log = structlog.get_logger()
LEASE = "tracer"
AWAY = (SQLAlchemyError, OSError, KeyringAway)  # may pass: the next turn tries again


@dataclass(frozen=True)
class Tracer:
    """One process works at a time."""

    database: Database
    tracing: Tracing
    lease_ttl_s: float

    def turn(self) -> int:
        """Returns how many were answered."""
        with self.database.reading() as session:
            wishes, old = traces.requested(session), traces.any_before(session, now() - KEPT)
        if not (wishes or old):
            return 0
        with alone(self.database, LEASE, self.lease_ttl_s) as lease:
            return self._work(lease, old=old) if lease else 0

    def _work(self, lease: Lease, *, old: bool) -> int:
        """Whoever had the lease before may have answered some meanwhile."""
        if old:
            with self.database.transaction() as session:
                leases.fence(session, lease)
                traces.forget(session, now() - KEPT)
        with self.database.reading() as session:
            wishes = traces.requested(session)
        return sum(self._answer(lease, row) for row in wishes)

    def _answer(self, lease: Lease, row: TraceRow) -> bool:
        try:
            found = self.tracing.answer(row.tenant, Question.model_validate(row.question))
        except NotFound as error:
            self._refuse(lease, row, str(error))
            return True
        except AWAY as error:
            log.warning("trace_postponed", trace_id=row.trace_id, reason=type(error).__name__)
            return False
        with self.database.transaction() as session:
            leases.fence(session, lease)
            traces.answer(session, row.tenant, row.trace_id, found.model_dump(mode="json"))
        return True

    def _refuse(self, lease: Lease, row: TraceRow, reason: str) -> None:
        with self.database.transaction() as session:
            leases.fence(session, lease)
            traces.refuse(session, row.tenant, row.trace_id, reason)
