"""Brings one version onto one engine: fetch, validate, load, smoke. Each step may be repeated after a kill."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from infra.contracts.manifests import AdapterManifest
from infra.contracts.routing import Replica
from infra.database.engine import Database
from infra.registry import adapters
from infra.registry.leases import Lease
from infra.settings import ServingSettings
from serving.engine import Engine, smoke
from serving.errors import EngineRefused, SmokeFailed
from serving.evidence import Shelf
from serving.metrics import Metrics
from serving.rollout import mark_verified

log = structlog.get_logger()


class Preparation:
    """`engine_at` gives the client of a replica's address; `look` lets the observer know what has changed there."""

    def __init__(
        self,
        database: Database,
        shelf: Shelf,
        settings: ServingSettings,
        engine_at: Callable[[str], Engine],
        look: Callable[[str], Awaitable[None]],
        metrics: Metrics,
    ) -> None:
        self._database, self._shelf, self._settings = database, shelf, settings
        self._engine_at, self._look, self._metrics = engine_at, look, metrics
        self.differences: dict[str, float] = {}  # version -> nats, of the last smoke

    async def prepare(self, lease: Lease, replica: Replica, version: str) -> None:
        """Raises Refused, EngineUnreachable, or Conflict where the replica restarted meanwhile."""
        began = time.monotonic()
        engine = self._engine_at(replica.address)
        manifest, path = await asyncio.to_thread(self._registered, version)
        directory = await asyncio.to_thread(self._shelf.take, manifest, path)
        if version not in await engine.loaded():
            await engine.load(version, directory)
        await self.smoke(engine, version)
        await self._look(replica.address)
        await asyncio.to_thread(self._verified, lease, replica, version)
        seconds = time.monotonic() - began
        self._metrics.prepared.observe(seconds)
        log.info("version_verified", version=version, replica=replica.name, seconds=round(seconds, 3))

    async def unload(self, replica: Replica, name: str) -> None:
        """One that is gone already is no trouble."""
        try:
            await self._engine_at(replica.address).unload(name)
        except EngineRefused as error:
            log.info("adapter_gone", name=name, replica=replica.name, reason=str(error))
        await self._look(replica.address)
        log.info("adapter_unloaded", name=name, replica=replica.name)

    async def smoke(self, engine: Engine, version: str) -> None:
        """Of a version that is loaded there; raises SmokeFailed."""
        evidence = await asyncio.to_thread(self._shelf.evidence, version)
        try:
            difference = await smoke(engine, version, evidence.smoke)
        except EngineRefused as error:
            raise SmokeFailed(f"the engine can't answer with it: {error}") from None
        if difference is None:
            log.warning("smoke_impossible", version=version, cases=len(evidence.smoke))
            return
        self.differences[version] = difference
        self._metrics.difference.set(difference)
        check_difference(difference, self._settings.smoke_tolerance, "the trainer's")

    def _registered(self, version: str) -> tuple[AdapterManifest, str]:
        with self._database.reading() as session:
            row = adapters.get(session, version)
            return adapters.manifest_of(row), row.path

    def _verified(self, lease: Lease, replica: Replica, version: str) -> None:
        with self._database.transaction() as session:
            mark_verified(session, lease, replica, version)


def check_difference(difference: float | None, tolerance: float, whose: str = "this base's") -> None:
    """Raises SmokeFailed. NaN is no difference that can be tolerated."""
    if difference is not None and not difference <= tolerance:
        raise SmokeFailed(
            f"the engine's log-probabilities are up to {difference:.3g} nats from {whose}, allowed are {tolerance:g}"
        )
