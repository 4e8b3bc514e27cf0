"""Cycles that start by themselves: after enough new votes, or on a schedule. Never two at once for one alias.

What counts is what the method learns from: pairs, for `kto` lone thumbs, for `auto` either of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy.orm import Session

from infra.clock import now
from infra.database.engine import Database
from infra.database.tables import CycleRow
from infra.registry import audit, cycles, fleet
from infra.registry.errors import Conflict
from infra.registry.fleet import Counts
from infra.settings import TrainerSettings

log = structlog.get_logger()

TRIGGER = "cycle.trigger"
NO_COUNTS = Counts()


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of one alias: votes joined so far, and as of the last cycle's trigger."""

    tenant: str
    alias: str
    counts: Counts
    before: Counts
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class Stock:
    """How many rows of one kind there are, how many of them are new, and how many it takes."""

    kind: str
    rows: int
    new: int
    least: int
    threshold: int


def reason_to_start(standing: Standing, settings: TrainerSettings, at: datetime) -> str | None:
    """Why a cycle is due; None where it is not. Nothing new, or too little in all, never starts one."""
    stocks = [stock for stock in _learnt_from(standing, settings) if stock.new > 0 and stock.rows >= stock.least]
    for stock in stocks:
        if 0 < stock.threshold <= stock.new:
            return f"{stock.new} new {stock.kind}, the threshold is {stock.threshold}"
    scheduled = settings.schedule_s and (
        standing.last_at is None or at - standing.last_at >= timedelta(seconds=settings.schedule_s)
    )
    return f"scheduled every {settings.schedule_s:g} s" if stocks and scheduled else None


def fire(database: Database, settings: TrainerSettings) -> list[str]:
    """Queues what is due and returns the new cycles' ids."""
    if not (settings.threshold_pairs or settings.threshold_thumbs or settings.schedule_s):
        return []
    with database.reading() as session:
        standings = [_standing(session, *known) for known in fleet.all_counts(session)]
    due = [(standing, reason_to_start(standing, settings, now())) for standing in standings]
    started = [_start(database, standing, reason) for standing, reason in due if reason]
    return [cycle_id for cycle_id in started if cycle_id]


def _learnt_from(standing: Standing, settings: TrainerSettings) -> Iterator[Stock]:
    counts, before = standing.counts, standing.before
    if settings.method != "kto":
        yield Stock("pairs", counts.pairs, counts.pairs - before.pairs, settings.min_pairs, settings.threshold_pairs)
    if settings.method in ("kto", "auto"):
        new = counts.thumbs - before.thumbs
        yield Stock("thumbs", counts.thumbs, new, settings.min_thumbs, settings.threshold_thumbs)


def _standing(session: Session, tenant: str, alias: str, counts: Counts) -> Standing:
    last: Sequence[CycleRow] = cycles.list_cycles(session, tenant, alias=alias, limit=1)
    if not last:
        return Standing(tenant, alias, counts, NO_COUNTS, None)
    entries = audit.list_entries(session, tenant, subject=last[0].cycle_id)
    told = next((entry.after for entry in entries if entry.action == TRIGGER), {})
    before = Counts(int(told.get("pairs", 0)), int(told.get("thumbs", 0)))
    return Standing(tenant, alias, counts, before, last[0].created_at)


def _start(database: Database, standing: Standing, reason: str) -> str | None:
    try:
        with database.transaction() as session:
            row = cycles.trigger(session, tenant=standing.tenant, alias=standing.alias, actor="schedule", reason=reason)
    except Conflict:
        return None  # one is running: its own end, or the next sweep, comes back here
    log.info("cycle_triggered", cycle_id=row.cycle_id, alias=standing.alias, reason=reason)
    return row.cycle_id
