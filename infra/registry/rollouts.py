"""Rollouts: one wished-for change of an alias' champion, forwards or back, and how far it has got.

`wishes.py` has what people ask for; here is what becomes of it.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from infra.clock import now
from infra.contracts.rollouts import Look, Step
from infra.contracts.routing import is_base
from infra.database.tables import RolloutRow
from infra.registry import adapters, audit, leases, news
from infra.registry.adapters import AdapterState
from infra.registry.errors import IllegalTransition, NotFound
from infra.registry.leases import Lease


class RolloutState(StrEnum):
    QUEUED = "queued"  # behind another one of the alias
    REQUESTED = "requested"
    LOADING = "loading"  # validate, load on every replica, smoke on each
    RUNNING = "running"  # at a step: mirrored to, or answering some
    PAUSED = "paused"  # by a person: it keeps its traffic, and is still aborted by what it does
    AWAITING_PERSON = "awaiting_person"  # as paused, and somebody has to say how it goes on
    DRAINING = "draining"  # the table is flipped; gateways move on and count down
    DONE = "done"
    FAILED = "failed"
    ABORTED = "aborted"


R = RolloutState
FINAL_STATES = frozenset({R.DONE, R.FAILED, R.ABORTED})
ON_TRAFFIC = frozenset({R.RUNNING, R.PAUSED, R.AWAITING_PERSON})
TRANSITIONS: dict[RolloutState, frozenset[RolloutState]] = {
    R.QUEUED: frozenset({R.REQUESTED, R.FAILED, R.ABORTED}),
    R.REQUESTED: frozenset({R.LOADING, R.FAILED, R.ABORTED}),
    R.LOADING: frozenset({R.RUNNING, R.DRAINING, R.FAILED, R.ABORTED}),
    R.RUNNING: frozenset({R.RUNNING, R.PAUSED, R.AWAITING_PERSON, R.LOADING, R.DRAINING, R.ABORTED}),
    R.PAUSED: frozenset({R.RUNNING, R.LOADING, R.ABORTED}),
    R.AWAITING_PERSON: frozenset({R.RUNNING, R.LOADING, R.ABORTED}),
    R.DRAINING: frozenset({R.DONE}),
    **{state: frozenset[RolloutState]() for state in FINAL_STATES},
}


def steps_of(row: RolloutRow) -> list[Step]:
    """None: it flips at once."""
    return [Step.model_validate(step) for step in row.steps]


def look_of(row: RolloutRow) -> Look | None:
    """At the step where it is now."""
    look = Look.model_validate(row.look) if row.look else None
    return look if look and look.step == row.step else None


def standing(row: RolloutRow) -> dict[str, Any]:
    """Where it is, and what its last look had to go by: for the audit, before it moves on."""
    look = look_of(row)
    evidence = {"votes": look.votes, "answers": look.answers} if look else {}
    return {"state": row.state, "step": row.step, **evidence}


def active(session: Session, alias: str) -> RolloutRow | None:
    """The one under way; others are queued behind it."""
    query = select(RolloutRow).where(RolloutRow.alias == alias, RolloutRow.state.not_in((*FINAL_STATES, R.QUEUED)))
    return session.scalar(query.with_for_update())


def unfinished(session: Session) -> Sequence[RolloutRow]:
    """Of all aliases, with those that are queued, oldest first."""
    query = select(RolloutRow).where(RolloutRow.state.not_in(FINAL_STATES))
    return session.scalars(query.order_by(RolloutRow.requested_at)).all()


def get(session: Session, rollout_id: str, tenant: str | None = None) -> RolloutRow:
    """Raises NotFound."""
    row = session.get(RolloutRow, rollout_id)
    if row is None or (tenant is not None and row.tenant != tenant):
        raise NotFound(f"there is no rollout {rollout_id}")
    return row


def list_rollouts(session: Session, tenant: str, *, alias: str | None = None, limit: int = 100) -> Sequence[RolloutRow]:
    """Newest first."""
    query = select(RolloutRow).where(RolloutRow.tenant == tenant).order_by(RolloutRow.requested_at.desc()).limit(limit)
    return session.scalars(query if alias is None else query.where(RolloutRow.alias == alias)).all()


def taken_back(session: Session, alias: str, version: str) -> RolloutRow | None:
    """How the last of its rollouts on traffic ended, where that was against it: the abort, or the rollback after it.

    Of a version that has no row to be marked: a base.
    """
    left = and_(RolloutRow.kind == "rollback", RolloutRow.from_version == version, RolloutRow.flipped_at.is_not(None))
    met_users = RolloutRow.step_began_at.is_not(None) | RolloutRow.flipped_at.is_not(None)
    query = select(RolloutRow).where(RolloutRow.alias == alias, or_(left, (RolloutRow.version == version) & met_users))
    last = session.scalars(query.order_by(RolloutRow.requested_at.desc()).limit(1)).first()
    return last if last is not None and (last.version != version or last.state == R.ABORTED) else None


def previous_version(session: Session, alias: str) -> str:
    """What a rollback without a target goes to: what served before, so that a second one goes back further.

    Raises NotFound where nothing did.
    """
    query = select(RolloutRow).where(RolloutRow.alias == alias, RolloutRow.flipped_at.is_not(None))
    history = session.scalars(query.order_by(RolloutRow.flipped_at)).all()
    if not history:
        raise NotFound(f"{alias} has never been rolled out: there is nothing to go back to")
    served = _served(history)
    if len(served) < 2:
        raise NotFound(f"nothing served {alias} before {served[-1]}: name a version to go to")
    return served[-2]


def advance(
    session: Session,
    lease: Lease,
    rollout_id: str,
    target: RolloutState,
    *,
    error: str | None = None,
    step: int | None = None,
) -> RolloutRow:
    """Moves a rollout under the controller's lease; raises LeaseLost or IllegalTransition."""
    leases.fence(session, lease)
    row = get(session, rollout_id)
    if target is R.RUNNING and step is not None:
        row.step, row.step_began_at, row.look = step, now(), None
    move(session, row, target, error)
    return row


def store_look(session: Session, lease: Lease, rollout_id: str, look: Look) -> None:
    """What its evidence says now; one that has moved on meanwhile keeps what it has. Raises LeaseLost."""
    leases.fence(session, lease)
    row = get(session, rollout_id)
    if RolloutState(row.state) in ON_TRAFFIC and row.step == look.step:
        row.look = look.model_dump(mode="json")


def move(session: Session, row: RolloutRow, target: RolloutState, error: str | None = None) -> None:
    """And it will be told on the log. Raises IllegalTransition."""
    source = RolloutState(row.state)
    if target not in TRANSITIONS[source]:
        raise IllegalTransition(f"rollout {row.rollout_id} cannot go from {source} to {target}")
    row.state, row.error = target, error
    if target is R.DRAINING:
        row.flipped_at = now()
    if target in FINAL_STATES:
        row.finished_at = now()
    news.add(session, row, before=source)


def flip(session: Session, row: RolloutRow, *, revision: int, actor: str) -> None:
    """The registry's side of a new champion, which `revision` of the table routes to."""
    champion_states(session, row)
    audit.record(
        session, tenant=row.tenant, actor=actor, action="rollout.flip", subject=row.version, reason=row.reason,
        before={"champion": row.from_version},
        after={"champion": row.version, "revision": revision, "rollout_id": row.rollout_id},
    )  # fmt: skip


def champion_states(session: Session, row: RolloutRow) -> None:
    """At the flip: the new version is champion, the old one retired, or rolled back where this is a rollback."""
    if not is_base(row.from_version):
        left = AdapterState.ROLLED_BACK if row.kind == "rollback" else AdapterState.RETIRED
        adapters.move(session, row.from_version, left, reason=row.reason)
    if not is_base(row.version):
        champion = adapters.move(session, row.version, AdapterState.CHAMPION, reason=row.reason)
        champion.updated_at = now()


def take_back(session: Session, row: RolloutRow, *, actor: str, reason: str, before: dict[str, Any]) -> None:
    """Of a version that has met users: it is marked, and offered again only by force."""
    has_met_users = row.step_began_at is not None and not is_base(row.version)
    if has_met_users and adapters.get(session, row.version).state == AdapterState.ACCEPTED:
        adapters.move(session, row.version, AdapterState.ROLLED_BACK, reason=reason)
    audit.record(
        session, tenant=row.tenant, actor=actor, action="rollout.abort", subject=row.version, reason=reason,
        before=before, after={"state": row.state, "rollout_id": row.rollout_id},
    )  # fmt: skip


def _served(history: Sequence[RolloutRow]) -> list[str]:
    """The champions in their order, the present one last; a rollback takes away what it went back over."""
    served: list[str] = []
    for row in history:
        if served[-1:] != [row.from_version]:
            served.append(row.from_version)
        if row.kind == "rollback" and row.version in served:
            while served[-1] != row.version:
                served.pop()
        else:
            served.append(row.version)
    return served
