"""Carries out what was planned for the registry: all of it in one transaction under the controller's lease."""

from typing import Any

import structlog
from sqlalchemy.orm import Session

from infra.contracts.routing import BASE_VERSION, Replica, is_base
from infra.database.tables import ReplicaRow, RolloutRow
from infra.registry import adapters, audit, fleet, leases, rollouts
from infra.registry.adapters import AdapterState
from infra.registry.errors import Conflict
from infra.registry.leases import Lease
from infra.registry.rollouts import RolloutState
from serving.reconcile import Move, Plan
from serving.world import World

ACTOR = "controller"

log = structlog.get_logger()


def apply_plan(session: Session, lease: Lease, world: World, plan: Plan) -> None:
    """Raises LeaseLost, or Conflict where a replica or the table has moved on since `world` was read."""
    leases.fence(session, lease)
    seen = {view.row.name: view.row for view in world.replicas}
    for replica in plan.replicas:
        _update_replica(session, seen[replica.name], replica)
    for move in plan.moves:
        _carry_out(session, lease, world, move)
    if plan.table is not None:
        _retire_strays(session, world, plan)
        fleet.publish_routing(session, lease, plan.table)


def mark_verified(session: Session, lease: Lease, replica: Replica, version: str) -> None:
    """The smoke on this engine has passed; a replica that restarted meanwhile must pass it again."""
    leases.fence(session, lease)
    row = session.get(ReplicaRow, replica.name)
    if row is None or not _is_same(row, replica) or not row.versions:
        raise Conflict(f"{replica.name} has restarted since")
    row.versions = sorted({*row.versions, version})


def mark_identified(session: Session, lease: Lease, replica: Replica, **found: object) -> None:
    """It has this base under this name: `base_revision`, `served_model` and `max_model_len` are what was found."""
    leases.fence(session, lease)
    row = session.get(ReplicaRow, replica.name)
    if row is None or not _is_same(row, replica):
        raise Conflict(f"{replica.name} has restarted since")
    for name, value in found.items():
        setattr(row, name, value)


def mark_failed(session: Session, lease: Lease, replica: Replica, version: str) -> None:
    """It no longer computes what was verified: nothing goes there until it does again. The base says it all anew."""
    leases.fence(session, lease)
    row = session.get(ReplicaRow, replica.name)
    if row is None or not _is_same(row, replica):
        return
    row.versions = [v for v in row.versions if v != version] if not is_base(version) else []
    if is_base(version):
        row.base_revision = ""


def _is_same(row: ReplicaRow, replica: Replica) -> bool:
    return (row.address, row.engine_started) == (replica.address, replica.engine_started)


def _update_replica(session: Session, seen: Replica, replica: Replica) -> None:
    row = session.get(ReplicaRow, seen.name)
    if row is None or Replica.model_validate(row, from_attributes=True) != seen:
        raise Conflict(f"{seen.name} has moved on since it was read")
    fleet.report_replica(session, replica)
    log.info("replica_changed", replica=replica.name, state=replica.state, versions=replica.versions)


def _carry_out(session: Session, lease: Lease, world: World, move: Move) -> None:
    row = rollouts.get(session, move.rollout_id)
    before = rollouts.standing(row)
    if move.target is RolloutState.DRAINING:
        row.from_version = _champion(world, row)
    row = rollouts.advance(session, lease, move.rollout_id, move.target, error=move.reason, step=move.step)
    match move.target:
        case RolloutState.DRAINING:
            if row.steps:
                _note_step(session, row, move, before)
            rollouts.flip(session, row, revision=world.revision + 1, actor=ACTOR)
        case RolloutState.FAILED if row.version in world.refused:
            _refuse(session, world, row)
        case RolloutState.ABORTED:
            rollouts.take_back(session, row, actor=ACTOR, reason=move.reason or "", before=before)
        case RolloutState.RUNNING | RolloutState.AWAITING_PERSON:
            _note_step(session, row, move, before)
    log.info("rollout_moved", rollout=row.rollout_id, version=row.version, state=row.state, step=row.step)


def _note_step(session: Session, row: RolloutRow, move: Move, before: dict[str, Any]) -> None:
    audit.record(
        session, tenant=row.tenant, actor=ACTOR, action="rollout.step", subject=row.version, reason=move.reason or "",
        before=before,
        after={"state": row.state, "step": row.step, "rollout_id": row.rollout_id},
    )  # fmt: skip


def _champion(world: World, row: RolloutRow) -> str:
    """Whom it replaces."""
    route = world.routes.get(row.alias)
    return route.seen_from(route.champion, world.base_of(row.version)) if route else BASE_VERSION


def _refuse(session: Session, world: World, row: RolloutRow) -> None:
    """What can't be loaded is never tried again, unless it has served before, or another replica computes it right."""
    if is_base(row.version):
        return
    is_verified = any(row.version in view.row.versions for view in world.replicas)
    if not is_verified and adapters.get(session, row.version).state == AdapterState.ACCEPTED:
        adapters.move(session, row.version, AdapterState.REFUSED, reason=row.error)
    log.warning("rollout_failed", rollout=row.rollout_id, version=row.version, reason=row.error)


def _retire_strays(session: Session, world: World, plan: Plan) -> None:
    """Champions whose alias starts again from no adapter because their base is served no more."""
    assert plan.table is not None
    for name, route in world.routes.items():
        if route.base_revision in world.bases or is_base(route.champion):
            continue
        reason = f"made for base {route.base_revision}"
        row = adapters.move(session, route.champion, AdapterState.RETIRED, reason=reason)
        audit.record(
            session, tenant=row.tenant, actor=ACTOR, action="routing.rebase", subject=name, reason=reason,
            before={"champion": route.champion}, after={"champion": BASE_VERSION},
        )  # fmt: skip
