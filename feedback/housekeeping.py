"""What is done now and then beside the events: orphans, gauges, and the log's retention."""

import time
from dataclasses import dataclass, field
from datetime import timedelta

import structlog
from sqlalchemy.orm import Session

from feedback.intake import erasing, matching, repository
from feedback.intake.consumer import lag
from feedback.intake.deadletters import open_letters
from feedback.intake.expiry import drop_older
from feedback.metrics import Metrics
from infra.artifacts import ArtifactStore
from infra.clock import now
from infra.database.engine import Database
from infra.eventlog.base import EventLog
from infra.settings import Settings

COUNT_SHARE = 100
LATELY_S = 60  # two consumers that missed each other's rows did so by now
ERASED_LATELY_S = 3600  # an erasure may have come from a spool
PURGE_STEPS = 10  # of at most a thousand events each, in one turn

log = structlog.get_logger()


@dataclass
class Costs:
    """What is remembered from turn to turn."""

    count_again_at: float = 0.0


@dataclass(frozen=True)
class Housekeeping:
    database: Database
    eventlog: EventLog
    artifacts: ArtifactStore
    metrics: Metrics
    settings: Settings
    costs: Costs = field(default_factory=Costs)

    def turn(self) -> None:
        behind = lag(self.eventlog)
        self.metrics.lag.set(behind)
        with self.database.transaction() as session:
            matching.match_waiting(session, now() - timedelta(seconds=LATELY_S))
            orphans = repository.orphan(session, self.settings.feedback.orphan_after_s)
        with self.database.reading() as session:
            self._count(session)
            self.metrics.dead_letters_open.set(open_letters(session))
            self.metrics.oldest_unjoined.set(repository.oldest_pending_s(session))
        self._expire()
        self._blank()
        if orphans:
            log.info("votes_orphaned", count=orphans)
        if not behind:
            self._trim()

    def _expire(self) -> None:
        """One step a turn, so that nobody waits for it."""
        before = now() - timedelta(days=self.settings.feedback.keep_days)
        with self.database.transaction() as session:
            gone = drop_older(session, before)
        if gone:
            log.info("events_expired", rows=gone)

    def _count(self, session: Session) -> None:
        """Counting ten million rows takes a second: it is done a hundredth of the time at most."""
        if time.monotonic() < self.costs.count_again_at:
            return
        began = time.monotonic()
        self.metrics.votes.set(repository.count_votes(session))
        self.costs.count_again_at = began + COUNT_SHARE * (time.monotonic() - began)

    def _blank(self) -> None:
        """Step by step: a consumer's batch fits in between."""
        erasing.blank_again(self.database, self.artifacts, now() - timedelta(seconds=ERASED_LATELY_S))
        for _ in range(PURGE_STEPS):
            if not (gone := erasing.purge(self.database, self.artifacts)):
                return
            log.info("events_blanked", rows=gone)

    def _trim(self) -> None:
        """Nothing leaves the log before it is stored."""
        gone = self.eventlog.trim(now() - timedelta(days=self.settings.infra.eventlog_retention_days))
        if gone:
            log.info("log_trimmed", records=gone)
