"""What is done now and then beside the events: orphans, gauges, and the log's retention."""

from dataclasses import dataclass
from datetime import timedelta

import structlog

from feedback import matching, repository
from feedback.consumer import lag
from feedback.metrics import Metrics
from infra.clock import now
from infra.database.engine import Database
from infra.eventlog.base import EventLog
from infra.settings import Settings

LATELY_S = 60  # two consumers that missed each other's rows did so by now

log = structlog.get_logger()


@dataclass(frozen=True)
class Housekeeping:
    database: Database
    eventlog: EventLog
    metrics: Metrics
    settings: Settings

    def turn(self) -> None:
        behind = lag(self.eventlog)
        self.metrics.lag.set(behind)
        with self.database.transaction() as session:
            matching.match_waiting(session, now() - timedelta(seconds=LATELY_S))
            orphans = repository.orphan(session, self.settings.feedback.orphan_after_s)
            self.metrics.votes.set(repository.count_votes(session))
            self.metrics.oldest_unjoined.set(repository.oldest_pending_s(session))
        if orphans:
            log.info("votes_orphaned", count=orphans)
        if not behind:
            self._trim()

    def _trim(self) -> None:
        """Nothing leaves the log before it is stored."""
        gone = self.eventlog.trim(now() - timedelta(days=self.settings.infra.eventlog_retention_days))
        if gone:
            log.info("log_trimmed", records=gone)
