"""Fulfils the wishes for exports that gateways write down, and takes away what nobody has fetched."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from feedback.holding import alone
from feedback.rights.portrait import Line, Portrait
from infra.artifacts import ArtifactStore, MissingArtifact
from infra.clock import now
from infra.database.engine import Database
from infra.database.tables import ExportRow
from infra.envelopes import Sealer
from infra.registry import erasures, exports, leases
from infra.registry.errors import NotFound
from infra.registry.exports import ExportState
from infra.registry.leases import Lease

log = structlog.get_logger()
LEASE = "exporter"
KEPT = timedelta(hours=1)
AWAY = (SQLAlchemyError, OSError, MissingArtifact, NotFound)  # an erasure may take the wish itself away


@dataclass(frozen=True)
class Exporter:
    """One process works at a time."""

    database: Database
    sealer: Sealer
    artifacts: ArtifactStore
    lease_ttl_s: float

    def turn(self) -> int:
        """Returns how many were written."""
        with self.database.reading() as session:
            wishes, old = exports.requested(session), exports.ready_before(session, now() - KEPT)
        done = 0
        if wishes or old:
            with alone(self.database, LEASE, self.lease_ttl_s) as lease:
                done = self._work(lease, wishes, old) if lease else 0
        return done

    def _work(self, lease: Lease, wishes: Sequence[ExportRow], old: Sequence[ExportRow]) -> int:
        for row in old:
            self._remove(row)
        return sum(self._fulfil(lease, row) for row in wishes)

    def _fulfil(self, lease: Lease, row: ExportRow) -> bool:
        path = f"exports/{row.tenant}/{row.export_id}.jsonl"
        try:
            erased = self._erased(row)
            person = Portrait(self.database, self.sealer, self.artifacts, row.tenant, row.rater)
            self.artifacts.write(path, b"".join(encode(line) for line in person.lines()))
            return self._finish(lease, row, path, erased)
        except AWAY as error:
            log.warning("export_postponed", export_id=row.export_id, reason=str(error))
            self.artifacts.delete([path])
            return False

    def _finish(self, lease: Lease, row: ExportRow, path: str, erased: int) -> bool:
        """Whoever was erased meanwhile has nothing left to fetch; raises NotFound where the wish is gone already."""
        with self.database.transaction() as session:
            leases.fence(session, lease)
            still = len(erasures.of_rater(session, row.tenant, row.rater)) == erased
            target = ExportState.READY if still else ExportState.GONE
            exports.move(session, row.tenant, row.export_id, target, path if still else None)
        if not still:
            self.artifacts.delete([path])
        return still

    def _erased(self, row: ExportRow) -> int:
        with self.database.reading() as session:
            return len(erasures.of_rater(session, row.tenant, row.rater))

    def _remove(self, row: ExportRow) -> None:
        if row.path:
            self.artifacts.delete([row.path])
        with self.database.transaction() as session:
            exports.move(session, row.tenant, row.export_id, ExportState.GONE)


def encode(line: Line) -> bytes:
    return json.dumps(line, default=_plain, ensure_ascii=False).encode() + b"\n"


def _plain(value: object) -> str:
    """Times as ISO 8601 has them."""
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
