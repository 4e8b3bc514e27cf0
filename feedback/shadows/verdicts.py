"""What the judge said, kept: nothing is judged twice, and a process that starts anew goes on where the last one was."""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from feedback.shadows.comparison import Comparison
from feedback.tables import InferenceRow, ShadowVerdictRow
from feedback.tallying.trials import Trial
from infra.clock import now


def store(session: Session, trial: Trial, judge: str, wins: Mapping[str, float | None]) -> None:
    """By mirrored answer; of one that was erased meanwhile nothing is kept. The tallies learn of it as of an erasure:
    by the time at which the answer was stored.
    """
    kept, at = standing(session, trial, wins, locked=True), now()
    for response_id in kept:
        session.merge(
            ShadowVerdictRow(
                tenant=trial.tenant, response_id=response_id, rollout_id=trial.rollout_id, judge=judge,
                win=wins[response_id], judged_at=at,
            )
        )  # fmt: skip
    mine = (InferenceRow.tenant == trial.tenant, InferenceRow.response_id.in_(kept))
    touched = update(InferenceRow).where(*mine).values(received_at=at)
    session.execute(touched, execution_options={"synchronize_session": False})


def all_stand(session: Session, trial: Trial, comparisons: Sequence[Comparison]) -> bool:
    """Whether nothing of what they were made of was erased since."""
    ids = {name for one in comparisons for name in (one.shown, one.mirrored)}
    return len(standing(session, trial, ids)) == len(ids)


def standing(session: Session, trial: Trial, ids: Iterable[str], *, locked: bool = False) -> list[str]:
    """Those answers that are not erased, held so until the transaction ends where that is asked for."""
    mine = (InferenceRow.tenant == trial.tenant, InferenceRow.response_id.in_(ids), InferenceRow.erased_at.is_(None))
    query = select(InferenceRow.response_id).where(*mine).order_by(InferenceRow.response_id)
    return list(session.scalars(query.with_for_update() if locked else query))
