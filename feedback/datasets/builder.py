"""Feedback's part of a cycle: queued → snapshotting → sft, or failed with the reason."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError
from uuid6 import uuid7

from feedback.datasets.cut import Cutter
from feedback.datasets.ordering import order_now
from feedback.datasets.snapshot import Snapshots
from feedback.errors import CutNotReached, ErasedMeanwhile, HelperLost, NoRows, Stopping
from feedback.holding import held
from feedback.metrics import Metrics
from infra.artifacts import MissingArtifact
from infra.contracts.manifests import DatasetManifest
from infra.database.engine import Database
from infra.database.tables import CycleRow
from infra.registry import cycles, leases
from infra.registry.cycles import FEEDBACK_STATES, CycleState
from infra.registry.errors import LeaseLost
from infra.registry.leases import Lease

log = structlog.get_logger()
AWAY = (
    SQLAlchemyError,
    OSError,
    MissingArtifact,
    CutNotReached,
    ErasedMeanwhile,
    HelperLost,
)  # may pass: the cycle is taken up again


@dataclass(frozen=True)
class Builder:
    """Takes the cycles that wait for a dataset, one after the other. Any number may run; leases keep them apart."""

    database: Database
    snapshots: Snapshots
    cutter: Cutter
    metrics: Metrics
    lease_ttl_s: float

    def turn(self) -> int:
        """Works on every waiting cycle that nobody holds; returns how many that were."""
        with self.database.reading() as session:
            waiting = [cycle.cycle_id for cycle in cycles.in_states(session, FEEDBACK_STATES)]
        return sum(self.work(cycle_id) for cycle_id in waiting)

    def work(self, cycle_id: str) -> bool:
        """Moves one cycle on, if nobody else does."""
        lease = self._take(cycle_id)
        if lease is None:
            return False
        with structlog.contextvars.bound_contextvars(cycle_id=cycle_id), self._settling(cycle_id, lease):
            manifest = self._build(cycle_id, lease)
            self._advance(lease, cycle_id, CycleState.SFT, dataset_id=manifest.dataset_id)
            log.info("dataset_published", dataset_id=manifest.dataset_id, sha256=manifest.sha256)
            self.metrics.snapshots.labels("published").inc()
        return True

    def _take(self, cycle_id: str) -> Lease | None:
        with self.database.transaction() as session:
            row = cycles.get(session, cycle_id)
            if CycleState(row.state) not in FEEDBACK_STATES:
                return None
            holder = f"feedback-{uuid7().hex}"
            lease = leases.acquire(session, leases.cycle_lease(cycle_id), holder, self.lease_ttl_s)
            if lease is not None and row.state == CycleState.QUEUED:
                cycles.advance(session, lease, cycle_id, CycleState.SNAPSHOTTING)
            return lease

    def _build(self, cycle_id: str, lease: Lease) -> DatasetManifest:
        with held(self.database, lease, self.lease_ttl_s):
            row = self._unless_cancelled(cycle_id)
            order = order_now(self.database, self.cutter, row.tenant, row.alias)
            manifest = self.snapshots.build(order, fence=lambda session: leases.fence(session, lease))
            self._unless_cancelled(cycle_id)
        return manifest

    def _unless_cancelled(self, cycle_id: str) -> CycleRow:
        with self.database.reading() as session:
            row = cycles.get(session, cycle_id)
        if row.cancel_requested:
            raise _Cancelled
        return row

    @contextmanager
    def _settling(self, cycle_id: str, lease: Lease) -> Iterator[None]:
        """Every way in which a snapshot can end, but for the good one."""
        try:
            yield
        except NoRows as error:
            self._end(lease, cycle_id, CycleState.FAILED, str(error))
        except _Cancelled:
            self._end(lease, cycle_id, CycleState.CANCELLED, "cancelled on request")
        except LeaseLost:
            log.warning("cycle_taken_over")
        except Stopping:
            self._release(lease)
        except AWAY as error:
            log.warning("snapshot_postponed", reason=str(error))
            self._release(lease)
        except Exception as error:
            self._end(lease, cycle_id, CycleState.FAILED, f"the snapshot failed: {type(error).__name__}: {error}")
            raise

    def _end(self, lease: Lease, cycle_id: str, target: CycleState, reason: str) -> None:
        log.info("snapshot_ended", state=target, reason=reason)
        self.metrics.snapshots.labels(target).inc()
        self._advance(lease, cycle_id, target, reason=reason)

    def _advance(self, lease: Lease, cycle_id: str, target: CycleState, **fields: str) -> None:
        """The next owner need not wait for the lease to run out."""
        with self.database.transaction() as session:
            cycles.advance(session, lease, cycle_id, target, **fields)
            leases.release(session, lease)

    def _release(self, lease: Lease) -> None:
        with self.database.transaction() as session:
            leases.release(session, lease)


class _Cancelled(Exception):
    """Somebody asked to cancel this cycle."""
