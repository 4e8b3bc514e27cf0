"""An erasure as the consumer handles it: first the tombstone, so that nothing more is stored, then the blanking."""

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from feedback.intake.blanking import blank_expired, blank_person
from feedback.tables import InferenceRow
from feedback.votes import Erased
from infra.artifacts import ArtifactStore
from infra.clock import now
from infra.database.engine import Database
from infra.database.tables import ErasureRow
from infra.registry import cases, erasures, tallies

EXPIRED_MOST = 1000  # events of each kind in one transaction


def accept(session: Session, event: Erased) -> ErasureRow:
    return erasures.accept(session, event.envelope.tenant, event.body, event.envelope.occurred_at)


def blank(session: Session, artifacts: ArtifactStore, tombstone: ErasureRow) -> int:
    """Adds what was found to the report; returns how many rows that were.

    Cases go after the answers: whoever makes one of an answer holds its row, and is waited for.
    """
    found = blank_person(session, artifacts, tombstone)
    if gone := cases.erase(session, tombstone.tenant, tombstone.rater, tombstone.up_to):
        found["regression_cases"] = gone
    _recount(session, tombstone)
    if found:
        known = tombstone.report.get("blanked", {})
        blanked = {name: known.get(name, 0) + found[name] for name in sorted({*known, *found})}
        tombstone.report = {**tombstone.report, "blanked": blanked}
    return found.total()


def _recount(session: Session, tombstone: ErasureRow) -> None:
    """A rollout's tallies of the person go; what came later is counted afresh, without what is blank."""
    gone = tallies.forget(session, tombstone.tenant, [tombstone.rater], tombstone.up_to)
    if gone:
        later = (InferenceRow.tenant == tombstone.tenant, InferenceRow.rater == tombstone.rater)
        touched = update(InferenceRow).where(*later, InferenceRow.rollout_id.is_not(None)).values(received_at=now())
        session.execute(touched, execution_options={"synchronize_session": False})


def blank_again(database: Database, artifacts: ArtifactStore, since: datetime) -> int:
    """A consumer that stored an event while another one erased its person had not seen the tombstone."""
    with database.transaction() as session:
        rows = session.scalars(select(ErasureRow).where(ErasureRow.requested_at >= since)).all()
        return sum(blank(session, artifacts, row) for row in rows)


def purge(database: Database, artifacts: ArtifactStore) -> int:
    """One step of blanking what may no longer be kept; returns how many rows that were."""
    with database.transaction() as session:
        return blank_expired(session, artifacts, EXPIRED_MOST).total() + cases.expire(session)
