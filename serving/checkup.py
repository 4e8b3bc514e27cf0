"""Is this engine what it is taken for? Asked of those that somebody else started, and of all of them now and then."""

import asyncio
from collections.abc import Callable

import structlog

from infra.contracts.fingerprints import BaseFingerprint
from infra.contracts.routing import BASE_VERSION, Replica, ReplicaState
from infra.database.engine import Database
from infra.registry import fleet
from infra.registry.leases import Lease
from serving.engine import Engine, smoke
from serving.errors import EngineUnreachable, SmokeFailed
from serving.fingerprint import Fingerprints, take
from serving.metrics import Metrics
from serving.preparation import Preparation, check_difference
from serving.rollout import mark_failed, mark_identified

log = structlog.get_logger()


class Checkup:
    """`tolerance` is in nats; `engine_at` gives the client of a replica's address."""

    def __init__(
        self,
        database: Database,
        fingerprints: Fingerprints,
        preparation: Preparation,
        engine_at: Callable[[str], Engine],
        tolerance: float,
        metrics: Metrics,
    ) -> None:
        self._database, self._fingerprints, self._preparation = database, fingerprints, preparation
        self._engine_at, self._tolerance, self._metrics = engine_at, tolerance, metrics

    async def identify(self, lease: Lease, replica: Replica) -> None:
        """Raises SmokeFailed where it has another base, EngineUnreachable where nobody knows yet what ours computes."""
        engine = self._engine_at(replica.address)
        name, longest = await engine.base()
        known = await asyncio.to_thread(self._fingerprints.known) or await self._trusted(engine, name, replica)
        await self._compare(engine, name, known)
        await asyncio.to_thread(self._identified, lease, replica, name, longest)
        log.info("replica_identified", replica=replica.name, base_revision=known.base_revision)

    async def recheck(self, lease: Lease, replica: Replica) -> None:
        """What it no longer computes is not asked of it any more."""
        engine = self._engine_at(replica.address)
        for version in replica.versions:
            try:
                if version == BASE_VERSION:
                    await self._recheck_base(engine, replica)
                else:
                    await self._preparation.smoke(engine, version)
            except SmokeFailed as error:
                log.error("replica_computes_wrong", replica=replica.name, version=version, reason=str(error))
                self._metrics.refused.inc()
                await asyncio.to_thread(self._failed, lease, replica, version)

    async def _recheck_base(self, engine: Engine, replica: Replica) -> None:
        known = await asyncio.to_thread(self._fingerprints.known)
        if known is not None:
            await self._compare(engine, replica.served_model, known)
        elif not replica.discovered:
            await self._keep(engine, replica.served_model, replica)

    async def _trusted(self, engine: Engine, name: str, replica: Replica) -> BaseFingerprint:
        """Where no engine is started here, the first one found is taken at its word."""
        if await asyncio.to_thread(self._has_own):
            raise EngineUnreachable("what this base computes is not known yet: a replica that is started here shows it")
        log.warning("base_taken_at_its_word", replica=replica.name, base_revision=self._fingerprints.base_revision)
        return await self._keep(engine, name, replica)

    async def _keep(self, engine: Engine, name: str, replica: Replica) -> BaseFingerprint:
        cases = await take(engine, name)
        return await asyncio.to_thread(self._fingerprints.keep, cases, replica.name)

    async def _compare(self, engine: Engine, name: str, known: BaseFingerprint) -> None:
        check_difference(await smoke(engine, name, known.cases), self._tolerance)

    def _has_own(self) -> bool:
        with self._database.reading() as session:
            return any(not r.discovered and r.state is not ReplicaState.DOWN for r in fleet.replicas(session))

    def _identified(self, lease: Lease, replica: Replica, name: str, longest: int) -> None:
        found = {"base_revision": self._fingerprints.base_revision, "served_model": name, "max_model_len": longest}
        with self._database.transaction() as session:
            mark_identified(session, lease, replica, **found)

    def _failed(self, lease: Lease, replica: Replica, version: str) -> None:
        with self._database.transaction() as session:
            mark_failed(session, lease, replica, version)
