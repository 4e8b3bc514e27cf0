"""Cycles that start by themselves: after enough new pairs, or on a schedule. Never two at once for one alias."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy.orm import Session

from infra.clock import now
from infra.database.engine import Database
from infra.database.tables import CycleRow
from infra.registry import audit, cycles, fleet
from infra.registry.errors import Conflict
from infra.settings import TrainerSettings

log = structlog.get_logger()

TRIGGER = "cycle.trigger"


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one alias: pairs joined so far, and as of the last cycle's trigger."""

    tenant: str
    alias: str
    pairs: int
    pairs_before: int
    last_at: datetime | None

    @property
    def new_pairs(self) -> int:
        return self.pairs - self.pairs_before


def reason_to_start(standing: Standing, settings: TrainerSettings, at: datetime) -> str | None:
    """Why a cycle is due; None where it is not. Nothing new, or too little in all, never starts one."""
    if standing.new_pairs <= 0 or standing.pairs < settings.min_pairs:
        return None
    if 0 < settings.threshold_pairs <= standing.new_pairs:
        return f"{standing.new_pairs} new pairs, the threshold is {settings.threshold_pairs}"
    if settings.schedule_s and (
        standing.last_at is None or at - standing.last_at >= timedelta(seconds=settings.schedule_s)
    ):
        return f"scheduled every {settings.schedule_s:g} s"
    return None


def fire(database: Database, settings: TrainerSettings) -> list[str]:
    """Queues what is due and returns the new cycles' ids."""
    if not (settings.threshold_pairs or settings.schedule_s):
        return []
    with database.reading() as session:
        standings = [_standing(session, *known) for known in fleet.pair_counts(session)]
    due = [(standing, reason_to_start(standing, settings, now())) for standing in standings]
    started = [_start(database, standing, reason) for standing, reason in due if reason]
    return [cycle_id for cycle_id in started if cycle_id]


def _standing(session: Session, tenant: str, alias: str, pairs: int) -> Standing:
    last: Sequence[CycleRow] = cycles.list_cycles(session, tenant, alias=alias, limit=1)
    if not last:
        return Standing(tenant, alias, pairs, 0, None)
    entries = audit.list_entries(session, tenant, subject=last[0].cycle_id)
    before = next((entry.after.get("pairs", 0) for entry in entries if entry.action == TRIGGER), 0)
    return Standing(tenant, alias, pairs, int(before), last[0].created_at)


def _start(database: Database, standing: Standing, reason: str) -> str | None:
    try:
        with database.transaction() as session:
            row = cycles.trigger(session, tenant=standing.tenant, alias=standing.alias, actor="schedule", reason=reason)
    except Conflict:
        return None  # one is running: its own end, or the next sweep, comes back here
    log.info("cycle_triggered", cycle_id=row.cycle_id, alias=standing.alias, reason=reason)
    return row.cycle_id
