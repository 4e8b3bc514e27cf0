"""Keeps the tallies of rollouts on traffic: looks for news, counts who has some afresh, stores the result.

One process at a time counts, under a lease; the next one begins by counting everybody. Should two count at once, both
store the same.
"""

import threading
from dataclasses import dataclass, field
from itertools import islice

import structlog
from uuid6 import uuid7

from feedback.errors import Stopping
from feedback.tallying.counting import count
from feedback.tallying.news import News
from feedback.tallying.reading import Reader
from feedback.tallying.trials import Trial, on_traffic
from feedback.tallying.trust import Trust, frozen_trust
from feedback.tallying.units import Unit
from infra.artifacts import ArtifactStore
from infra.database.engine import Database
from infra.registry import leases, tallies
from infra.registry.errors import LeaseLost
from infra.registry.leases import Lease

LEASE = "tallier"
PIECE = 200  # units that are counted in one transaction
log = structlog.get_logger()


@dataclass
class Book:
    """One rollout's: what is known of its news, and who is still to be counted."""

    trial: Trial
    trust: Trust
    news: News
    waiting: dict[Unit, None] = field(default_factory=dict)  # in order


@dataclass
class Tallier:
    database: Database
    reader: Reader
    artifacts: ArtifactStore
    lease_ttl_s: float
    stop: threading.Event
    holder: str = field(default_factory=lambda: f"feedback-{uuid7().hex}")
    _books: dict[str, Book] = field(default_factory=dict)

    def turn(self) -> int:
        """Counts whoever has news; returns how many units that were. Raises Stopping."""
        with self.database.reading() as session:
            trials = on_traffic(session)
        lease = self._lease() if trials else None
        if lease is None:
            self._books.clear()
            self.reader.forget()
            return 0
        self._books = {trial.rollout_id: self._book(trial) for trial in trials}
        try:
            return sum(self._count(lease, book) for book in self._books.values())
        except LeaseLost:
            log.warning("lease_taken_over", lease=LEASE)
            self._books.clear()
            return 0

    def _lease(self) -> Lease | None:
        with self.database.transaction() as session:
            return leases.acquire(session, LEASE, self.holder, self.lease_ttl_s)

    def _book(self, trial: Trial) -> Book:
        if book := self._books.get(trial.rollout_id):
            return book
        log.info("tallying_began", rollout_id=trial.rollout_id, alias=trial.alias)
        return Book(trial, frozen_trust(self.database, self.artifacts, trial), News(trial))

    def _count(self, lease: Lease, book: Book) -> int:
        """Whoever is not done when something breaks is counted in the next turn."""
        with self.database.reading() as session:
            book.waiting |= dict.fromkeys(sorted(book.news.look(session)))
        done = 0
        while book.waiting:
            if self.stop.is_set():
                raise Stopping("asked to end while counting")
            piece = list(islice(book.waiting, PIECE))
            self._recount(lease, book, piece)
            for unit in piece:
                del book.waiting[unit]
            done += len(piece)
        return done

    def _recount(self, lease: Lease, book: Book, units: list[Unit]) -> None:
        trial = book.trial
        answers = self.reader.answers(trial, units)
        votes, wins = self.reader.votes(trial, answers), self.reader.wins(trial, answers)
        counted = count(trial, answers, votes, wins, book.trust)
        with self.database.transaction() as session:
            leases.heartbeat(session, lease, self.lease_ttl_s)
            tallies.replace(session, trial.tenant, trial.rollout_id, [unit.name for unit in units], counted)
