"""Rollouts: one wished-for change of an alias' champion, forwards or back, and how far it has got."""

from collections.abc import Sequence
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session
from uuid6 import uuid7

from infra.clock import now
from infra.contracts.routing import BASE_VERSION
from infra.database.tables import AdapterRow, RolloutRow
from infra.registry import adapters, audit, leases
from infra.registry.adapters import AdapterState
from infra.registry.errors import Conflict, IllegalTransition, NotFound
from infra.registry.leases import Lease


class RolloutState(StrEnum):
    REQUESTED = "requested"
    LOADING = "loading"  # validate, load on every replica, smoke on each
    DRAINING = "draining"  # the table is flipped; gateways move on and count down
    DONE = "done"
    FAILED = "failed"
    ABORTED = "aborted"


R = RolloutState
FINAL_STATES = frozenset({R.DONE, R.FAILED, R.ABORTED})
TRANSITIONS: dict[RolloutState, frozenset[RolloutState]] = {
    R.REQUESTED: frozenset({R.LOADING, R.FAILED, R.ABORTED}),
    R.LOADING: frozenset({R.DRAINING, R.FAILED, R.ABORTED}),
    R.DRAINING: frozenset({R.DONE}),
    **{state: frozenset[RolloutState]() for state in FINAL_STATES},
}
PROMOTABLE = frozenset(
    {
        AdapterState.ACCEPTED,
        AdapterState.BLOCKED,
        AdapterState.AWAITING_PERSON,
        AdapterState.RETIRED,
        AdapterState.ROLLED_BACK,
    }
)


def request_promotion(
    session: Session, *, version: str, actor: str, reason: str, tenant: str | None = None, champion: str
) -> RolloutRow:
    """Asks for `version` as champion in place of `champion`; a person's yes accepts what was blocked or waited.

    Raises NotFound, Conflict (another rollout of the alias is under way) or IllegalTransition.
    """
    adapter = adapters.get(session, version, tenant)
    state = AdapterState(adapter.state)
    if state not in PROMOTABLE:
        raise IllegalTransition(f"version {version} is {state} and cannot be promoted")
    if state in (AdapterState.BLOCKED, AdapterState.AWAITING_PERSON):
        adapters.move(session, version, AdapterState.ACCEPTED, reason=f"{actor}: {reason}")
    return _request(session, "promote", adapter.tenant, adapter.alias, version, champion, actor, reason)


def request_rollback(
    session: Session, *, tenant: str, alias: str, version: str, actor: str, reason: str, champion: str
) -> RolloutRow:
    """Asks for an earlier version, or `base`, in place of `champion`; supersedes a rollout that is still loading."""
    if version != BASE_VERSION:
        adapter = adapters.get(session, version, tenant)
        if AdapterState(adapter.state) not in (AdapterState.RETIRED, AdapterState.ROLLED_BACK):
            raise IllegalTransition(f"version {version} is {adapter.state}: only what has served can be rolled back to")
    if (running := active(session, alias)) and running.state != R.DRAINING:
        _move(running, R.ABORTED, f"superseded by a rollback to {version}")
    elif running:
        _move(running, R.DONE, None)
    return _request(session, "rollback", tenant, alias, version, champion, actor, reason)


def request_abort(session: Session, rollout_id: str, *, tenant: str, actor: str, reason: str) -> RolloutRow:
    """Ends a rollout that has not flipped yet; raises NotFound, or IllegalTransition once it has."""
    row = get(session, rollout_id, tenant)
    before = {"state": row.state}
    _move(row, R.ABORTED, f"{actor}: {reason}")
    audit.record(
        session, tenant=tenant, actor=actor, action="rollout.abort", subject=row.version, reason=reason,
        before=before, after={"state": row.state, "rollout_id": rollout_id},
    )  # fmt: skip
    return row


def previous_version(session: Session, alias: str) -> str:
    """What a rollback without a target goes to: what served before, so that a second one goes back further.

    Raises NotFound where nothing did.
    """
    query = select(RolloutRow).where(RolloutRow.alias == alias, RolloutRow.state.in_((R.DONE, R.DRAINING)))
    history = session.scalars(query.order_by(RolloutRow.requested_at)).all()
    if not history:
        raise NotFound(f"{alias} has never been rolled out: there is nothing to go back to")
    served = _served(history)
    if len(served) < 2:
        raise NotFound(f"nothing served {alias} before {served[-1]}: name a version to go to")
    return served[-2]


def active(session: Session, alias: str) -> RolloutRow | None:
    query = select(RolloutRow).where(RolloutRow.alias == alias, RolloutRow.state.not_in(FINAL_STATES))
    return session.scalar(query.with_for_update())


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


def advance(
    session: Session, lease: Lease, rollout_id: str, target: RolloutState, *, error: str | None = None
) -> RolloutRow:
    """Moves a rollout under the controller's lease; raises LeaseLost or IllegalTransition."""
    leases.fence(session, lease)
    row = get(session, rollout_id)
    _move(row, target, error)
    return row


def _request(
    session: Session, kind: str, tenant: str, alias: str, version: str, champion: str, actor: str, reason: str
) -> RolloutRow:
    if running := active(session, alias):
        raise Conflict(f"rollout {running.rollout_id} of {alias} is {running.state}: wait for it or abort it")
    if version == champion:
        raise Conflict(f"{version} is the champion of {alias} already")
    row = RolloutRow(rollout_id=uuid7().hex, tenant=tenant, alias=alias, kind=kind, version=version)
    row.from_version, row.state, row.actor, row.reason = champion, R.REQUESTED, actor, reason
    row.requested_at = now()
    session.add(row)
    audit.record(
        session, tenant=tenant, actor=actor, action=f"rollout.{kind}", subject=version, reason=reason,
        before={"champion": champion}, after={"champion": version, "rollout_id": row.rollout_id},
    )  # fmt: skip
    session.flush()
    return row


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


def _move(row: RolloutRow, target: RolloutState, error: str | None) -> None:
    source = RolloutState(row.state)
    if target not in TRANSITIONS[source]:
        raise IllegalTransition(f"rollout {row.rollout_id} cannot go from {source} to {target}")
    row.state, row.error = target, error
    if target is R.DRAINING:
        row.flipped_at = now()
    if target in FINAL_STATES:
        row.finished_at = now()


def champion_states(session: Session, row: RolloutRow) -> None:
    """At the flip: the new version is champion, the old one retired, or rolled back where this is a rollback."""
    if row.from_version != BASE_VERSION:
        left = AdapterState.ROLLED_BACK if row.kind == "rollback" else AdapterState.RETIRED
        adapters.move(session, row.from_version, left, reason=row.reason)
    if row.version != BASE_VERSION:
        champion: AdapterRow = adapters.move(session, row.version, AdapterState.CHAMPION, reason=row.reason)
        champion.updated_at = now()
