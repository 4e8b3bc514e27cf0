"""Finds the answers of votes and the votes of answers, and keeps the alias' pair count with what it found."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import false, select
from sqlalchemy.orm import Session

from feedback.consent import Said, covers
from feedback.tables import TRANSITIONS, InferenceRow, VoteRow, VoteStatus, VoteTargetRow
from feedback.votes import SESSION
from infra.contracts.events import InferenceStatus
from infra.registry import fleet
from infra.registry.errors import IllegalTransition


@dataclass(frozen=True, slots=True)
class Known:
    """What of an answer is known without opening its body."""

    alias: str
    owner: Said
    usable: bool


def match(session: Session, tenant: str, votes: Sequence[VoteRow], answers: Sequence[str]) -> None:
    """Joins what changed with what is there: `votes` are rows, `answers` the response ids that are new."""
    touched = {row.vote_id: row for row in (*votes, *_waiting_for(session, tenant, answers))}
    targets = _targets(session, tenant, list(touched))
    found = _answers(session, tenant, {target for group in targets.values() for target in group})
    gained: dict[str, int] = defaultdict(int)
    for vote_id, row in touched.items():
        answered = [found[target] for target in targets[vote_id] if target in found]
        if len(answered) < len(targets[vote_id]):
            continue
        row.alias = answered[0].alias
        move(row, VoteStatus.JOINED)
        counts = row.pairs if _trainable(row, answered) else 0
        gained[row.alias] += counts - row.counted
        row.counted = counts
    for alias, change in sorted(gained.items()):
        if change:
            fleet.add_pairs(session, tenant, alias, change)


def move(row: VoteRow, target: VoteStatus) -> None:
    """Raises IllegalTransition; moving to where it is already does nothing."""
    source = VoteStatus(row.status)
    if target is source:
        return
    if target not in TRANSITIONS[source]:
        raise IllegalTransition(f"vote {row.vote_id} cannot go from {source} to {target}")
    row.status = target


def _waiting_for(session: Session, tenant: str, answers: Sequence[str]) -> Sequence[VoteRow]:
    """Votes, joined or not, that point at one of these answers or at its conversation."""
    if not answers:
        return []
    found = session.scalars(
        select(InferenceRow.session_id)
        .where(InferenceRow.tenant == tenant, InferenceRow.response_id.in_(answers))
        .where(InferenceRow.session_id.is_not(None))
    )
    wanted = [*answers, *(f"{SESSION}{session_id}" for session_id in found)]
    pointing = select(VoteTargetRow.vote_id).where(VoteTargetRow.tenant == tenant, VoteTargetRow.target.in_(wanted))
    return session.scalars(select(VoteRow).where(VoteRow.tenant == tenant, VoteRow.vote_id.in_(pointing))).all()


def _targets(session: Session, tenant: str, votes: Sequence[str]) -> dict[str, list[str]]:
    query = select(VoteTargetRow.vote_id, VoteTargetRow.target)
    targets: dict[str, list[str]] = defaultdict(list)
    for vote_id, target in session.execute(
        query.where(VoteTargetRow.tenant == tenant, VoteTargetRow.vote_id.in_(votes)).order_by(VoteTargetRow.target)
    ):
        targets[vote_id].append(target)
    return targets


def _answers(session: Session, tenant: str, targets: set[str]) -> dict[str, Known]:
    """Target -> its inference; of a conversation any one."""
    row = InferenceRow
    query = select(
        row.response_id, row.session_id, row.alias, row.rater, row.consent_train, row.consent_explicit, row.stored,
        row.status,
    ).where(row.tenant == tenant)  # fmt: skip
    sessions = [target.removeprefix(SESSION) for target in targets if target.startswith(SESSION)]
    responses = [target for target in targets if not target.startswith(SESSION)]
    found = {
        response_id: Known(alias, Said(rater, train, explicit), stored and status == InferenceStatus.COMPLETED)
        for response_id, _, alias, rater, train, explicit, stored, status in session.execute(
            query.where(row.response_id.in_(responses))
        )
    }
    for _, session_id, alias, rater, train, explicit, *_ in session.execute(
        query.where(row.session_id.in_(sessions)) if sessions else query.where(false())
    ):
        found[f"{SESSION}{session_id}"] = Known(alias, Said(rater, train, explicit), usable=False)
    return found


def _trainable(vote: VoteRow, answers: Sequence[Known]) -> bool:
    """What the counter can know without opening a body; a snapshot's filters may still drop the row."""
    judge = Said(vote.rater, vote.consent_train, vote.consent_explicit)
    return all(answer.usable and covers(answer.owner, judge) for answer in answers)
