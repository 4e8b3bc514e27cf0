"""Tells the log what became of rollouts. A change commits with its news; the log gets it as soon as it can."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from uuid import UUID

import structlog
from sqlalchemy.exc import OperationalError

from infra.contracts.events import ROLLOUT_TOPIC
from infra.contracts.rollouts import RolloutEvent
from infra.database.engine import Database
from infra.database.tables import NewsRow
from infra.envelopes import Header, Sealer
from infra.eventlog.base import LogUnavailable, Producer
from infra.keystore.base import KeyringAway
from infra.registry import news

BATCH = 100
EVERY_S = 0.5
AGAIN_S = 5.0  # after the log, the keys or the database were away
ACK_TIMEOUT_S = 30
TRANSIENT = (LogUnavailable, KeyringAway, OperationalError, TimeoutError)

log = structlog.get_logger()


class Announcing:
    """At least once, in order for each rollout: what is told twice has the same event id. No rollout waits for it."""

    def __init__(self, database: Database, sealer: Sealer, producer: Producer) -> None:
        self._database, self._sealer, self._producer = database, sealer, producer

    async def run(self, stop: asyncio.Event, leads: Callable[[], bool]) -> None:
        """Until told to stop; only while this controller leads."""
        while not stop.is_set():
            pause = EVERY_S
            if leads():
                try:
                    await asyncio.to_thread(self.turn)
                except TRANSIENT as error:
                    log.warning("rollouts_not_told", reason=str(error) or type(error).__name__)
                    pause = AGAIN_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)

    def turn(self) -> int:
        """How many were told; raises one of TRANSIENT, and then all of them are told again."""
        with self._database.reading() as session:
            rows = news.oldest(session, BATCH)
        if not rows:
            return 0
        self._send(rows)
        with self._database.transaction() as session:
            news.forget(session, [row.news_id for row in rows])
        return len(rows)

    def _send(self, rows: Sequence[NewsRow]) -> None:
        """Returns once the log has all of them. One after the other: nothing overtakes what the log refused."""
        for row in rows:
            self._producer.append(ROLLOUT_TOPIC, row.body["rollout_id"], self._encode(row)).result(ACK_TIMEOUT_S)

    def _encode(self, row: NewsRow) -> bytes:
        header = Header(row.tenant, event_id=UUID(row.event_id), occurred_at=row.at)
        return self._sealer.wrap(RolloutEvent.model_validate(row.body), header).model_dump_json().encode()
