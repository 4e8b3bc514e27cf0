"""Keeps the gateway's view of the registry fresh: the routing table, the API keys, and its own heartbeat."""

import asyncio
import contextlib
import time

import structlog
from sqlalchemy.exc import SQLAlchemyError

from gateway.metrics import Metrics
from gateway.routing import Router
from infra.bell import Bell
from infra.contracts.routing import RoutingTable
from infra.database.engine import Database
from infra.registry import fleet, keys
from infra.registry.keys import Principal
from infra.settings import GatewaySettings

log = structlog.get_logger()

HEARTBEAT_S = 0.4  # the controller waits for it after each flip
KEYS_S = 1.0  # how long a revoked key still works


class Watch:
    """Everything here runs on the event loop but the reads and writes themselves. A registry that cannot be reached
    leaves what was read last in use."""

    def __init__(
        self,
        gateway_id: str,
        address: str,
        settings: GatewaySettings,
        database: Database,
        router: Router,
        metrics: Metrics,
        bell: Bell,
    ) -> None:
        self._gateway_id, self._address, self._settings = gateway_id, address, settings
        self._database, self._router, self._metrics, self._bell = database, router, metrics, bell
        self.principals: dict[str, Principal] = {}
        self._keys_read_at = float("-inf")
        self._read_at = time.monotonic()
        self._reading_keys, self._heard = asyncio.Lock(), asyncio.Event()

    @property
    def age_s(self) -> float:
        """Since the registry was last read."""
        return time.monotonic() - self._read_at

    async def begin(self) -> None:
        """Reads everything once, so that the first request finds it; without a registry the start goes on.

        It reports first: the controller then waits for this gateway before it unloads what the table read here names.
        """
        try:
            await self.report()
            await self.read_table()
            await self.read_keys()
        except (SQLAlchemyError, ValueError) as error:
            _warn(error, self.age_s)

    async def follow(self) -> None:
        """Reads the table and the keys until cancelled. Readers wait for no writer."""
        while True:
            try:
                await self.read_table()
                if time.monotonic() - self._keys_read_at > KEYS_S:
                    await self.read_keys()
            except (SQLAlchemyError, ValueError) as error:
                _warn(error, self.age_s)
            self._router.stale = self.age_s > self._settings.routing_max_age_s
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), self._settings.routing_poll_s)
            self._heard.clear()

    async def listen(self) -> None:
        """Looks at once where somebody says that the table has changed, until cancelled."""
        await self._bell.listen(self._heard)

    async def beat(self) -> None:
        """Reports until cancelled: regularly, and at once where a rollout waits for it."""
        while True:
            try:
                await self.report()
            except SQLAlchemyError as error:
                _warn(error, self.age_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._router.news.wait(), HEARTBEAT_S)

    async def read_table(self) -> bool:
        """Whether a newer table was applied."""
        table = await asyncio.to_thread(self._newer_table, self._router.revision)
        self._read_at = time.monotonic()
        if table is None:
            return False
        self._router.apply(table)
        self._metrics.revision.set(table.revision)
        log.info("routing_applied", revision=table.revision)
        return True

    async def read_keys(self) -> None:
        began = time.monotonic()
        self.principals = await asyncio.to_thread(self._principals)
        self._keys_read_at = began

    async def principal(self, hashed: str) -> Principal | None:
        """A key that is not known yet may have been made a moment ago; all who ask meanwhile share one more read."""
        if found := self.principals.get(hashed):
            return found
        asked_at = time.monotonic()
        async with self._reading_keys:
            if self._keys_read_at < asked_at:
                await asyncio.sleep(self._keys_read_at + self._settings.routing_poll_s - asked_at)
                await self.read_keys()
        return self.principals.get(hashed)

    async def report(self) -> None:
        """Tells the controller which revision new answers go by, and how many of each version are under way."""
        self._router.news.clear()
        revision, in_flight = self._router.revision, dict(self._router.in_flight)
        self._measure(in_flight)
        await asyncio.to_thread(self._report, revision, in_flight)

    async def forget(self) -> None:
        """At the end: nobody needs to wait for a gateway that has gone."""
        try:
            await asyncio.to_thread(self._forget)
        except SQLAlchemyError as error:
            _warn(error, self.age_s)

    def _measure(self, in_flight: dict[str, int]) -> None:
        self._metrics.table_age.set(self.age_s)
        self._metrics.in_flight.clear()
        for version, count in in_flight.items():
            self._metrics.in_flight.labels(version).set(count)

    def _newer_table(self, revision: int) -> RoutingTable | None:
        with self._database.reading() as session:
            return fleet.routing_table(session) if fleet.routing_revision(session) != revision else None

    def _principals(self) -> dict[str, Principal]:
        with self._database.reading() as session:
            return keys.principals(session)

    def _report(self, revision: int, in_flight: dict[str, int]) -> None:
        with self._database.transaction() as session:
            fleet.report_gateway(session, self._gateway_id, self._address, revision, in_flight)

    def _forget(self) -> None:
        with self._database.transaction() as session:
            fleet.forget_gateway(session, self._gateway_id)


def _warn(error: SQLAlchemyError | ValueError, age_s: float) -> None:
    log.warning("registry_unreachable", reason=str(error.__cause__ or error), age_s=round(age_s, 1))
