"""Reads the registry's side of the world in one look."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from infra.clock import now
from infra.contracts.routing import Replica, RoutingTable
from infra.database.tables import AdapterRow, RolloutRow
from infra.registry import adapters, cycles, fleet, rollouts
from infra.registry.adapters import AdapterState
from infra.registry.rollouts import RolloutState
from infra.settings import ServingSettings
from serving.engine import Look
from serving.world import TRAINING_SLOTS, GatewayView, Made, ReplicaView, RolloutView, World

WAITING = (AdapterState.ACCEPTED, AdapterState.AWAITING_PERSON)


def read_world(
    session: Session,
    settings: ServingSettings,
    *,
    alias: str,
    base_revision: str,
    next_base: str = "",
    seen: Mapping[str, Look | None],
    refused: Mapping[str, str],
) -> World:
    """`seen`: the last word of each address, None of one that does not answer; those never asked are missing."""
    table, unfinished = fleet.routing_table(session), rollouts.unfinished(session)
    candidates = _candidates(session, alias)
    spoken_of = {*_routed(table), *candidates, *(row.version for row in unfinished)}
    return World(
        table=table,
        alias=alias,
        base_revision=base_revision,
        next_base=next_base,
        made={v: Made(*found) for v, found in adapters.made_for(session, spoken_of).items()},
        replicas=[_replica(row, seen) for row in fleet.replicas(session)],
        rollouts=[_rollout(row, settings, now()) for row in unfinished],
        gateways=[
            GatewayView(row.applied_revision, row.in_flight)
            for row in fleet.live_gateways(session, settings.gateway_ttl_s)
        ],
        candidates=candidates,
        training=frozenset(row.cycle_id for row in cycles.in_states(session, cycles.TRAINER_STATES)),
        refused=refused,
        slots=max(1, settings.max_loras - TRAINING_SLOTS),
        may_promote=settings.auto_promote,
    )


def _replica(row: Replica, seen: Mapping[str, Look | None]) -> ReplicaView:
    look = seen.get(row.address)
    if look is None:
        return ReplicaView(row, None, asked=row.address in seen)
    return ReplicaView(row, look.names, started=look.started)


def _rollout(row: RolloutRow, settings: ServingSettings, at: datetime) -> RolloutView:
    allowed = timedelta(seconds=settings.drain_timeout_s)
    overdue = row.flipped_at is not None and at - row.flipped_at > allowed
    return RolloutView(
        row.rollout_id, row.alias, row.version, RolloutState(row.state), overdue, row.from_version,
        rollouts.steps_of(row), row.step, row.kind == "rollback", row.step_began_at, rollouts.look_of(row),
    )  # fmt: skip


def _routed(table: RoutingTable | None) -> set[str]:
    routes = table.aliases.values() if table else ()
    return {v for route in routes for v in (*route.previous, *(entry.version for entry in route.versions))}


def _candidates(session: Session, alias: str) -> list[str]:
    """What is in gating; then the newest version, where it waits for its promotion."""
    gating = [row.version for row in cycles.in_states(session, cycles.SERVING_STATES) if row.version]
    query = select(AdapterRow).where(AdapterRow.alias == alias).order_by(AdapterRow.created_at.desc()).limit(1)
    newest = session.scalars(query).first()
    waits = newest is not None and newest.state in WAITING
    return [*gating, newest.version] if newest is not None and waits else gating
