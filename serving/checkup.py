"""Is this engine what it is taken for? Asked of those that somebody else started, and of all of them now and then."""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from infra.contracts.fingerprints import BaseFingerprint
from infra.contracts.routing import Replica, ReplicaState, is_base
from infra.database.engine import Database
from infra.registry import fleet
from infra.registry.leases import Lease
from serving.engine import Engine, smoke
from serving.errors import EngineRefused, EngineUnreachable, SmokeFailed
from serving.fingerprint import Fingerprints, take
from serving.metrics import Metrics
from serving.preparation import Preparation, check_difference
from serving.rollout import mark_failed, mark_identified

log = structlog.get_logger()


class Checkup:
    """`fingerprints` are those of every base that is served; `tolerance` is in nats; `engine_at` gives the client of a
    replica's address."""

    def __init__(
        self,
        database: Database,
        fingerprints: Sequence[Fingerprints],
        preparation: Preparation,
        engine_at: Callable[[str], Engine],
        tolerance: float,
        metrics: Metrics,
    ) -> None:
        self._database, self._preparation = database, preparation
        self._fingerprints = {of.base_revision: of for of in fingerprints}
        self._engine_at, self._tolerance, self._metrics = engine_at, tolerance, metrics

    async def identify(self, lease: Lease, replica: Replica) -> None:
        """Raises SmokeFailed where it has another base, EngineUnreachable where nobody knows yet what ours computes."""
        engine = self._engine_at(replica.address)
        name, longest = await engine.base()
        base_revision = (await self._recognised(engine, name, replica)).base_revision
        found = {"base_revision": base_revision, "served_model": name, "max_model_len": longest}
        await asyncio.to_thread(self._identified, lease, replica, found)
        log.info("replica_identified", replica=replica.name, base_revision=base_revision)

    async def recheck(self, lease: Lease, replica: Replica) -> None:
        """What it no longer computes is not asked of it any more."""
        engine = self._engine_at(replica.address)
        for version in replica.versions:
            try:
                if is_base(version):
                    await self._recheck_base(engine, replica)
                else:
                    await self._preparation.smoke(engine, version)
            except SmokeFailed as error:
                log.error("replica_computes_wrong", replica=replica.name, version=version, reason=str(error))
                self._metrics.refused.inc()
                await asyncio.to_thread(self._failed, lease, replica, version)

    async def _recheck_base(self, engine: Engine, replica: Replica) -> None:
        fingerprints = self._fingerprints[replica.base_revision]
        known = await asyncio.to_thread(fingerprints.known)
        if known is not None:
            await self._compare(engine, replica.served_model, known)
        elif not replica.discovered:
            await self._keep(fingerprints, engine, replica.served_model, replica)

    async def _recognised(self, engine: Engine, name: str, replica: Replica) -> BaseFingerprint:
        """The base whose numbers it computes; one that has none of those known may have the one that isn't."""
        unknown, refusals = list[Fingerprints](), list[SmokeFailed]()
        for fingerprints in self._fingerprints.values():
            known = await asyncio.to_thread(fingerprints.known)
            if known is None:
                unknown.append(fingerprints)
                continue
            try:
                await self._compare(engine, name, known)
            except (SmokeFailed, EngineRefused) as error:  # another base may not even know the tokens
                refusals.append(SmokeFailed(f"it does not have base {known.base_revision}: {error}"))
            else:
                return known
        if not unknown:
            raise refusals[0]
        return await self._trusted(unknown, engine, name, replica)

    async def _trusted(
        self, unknown: Sequence[Fingerprints], engine: Engine, name: str, replica: Replica
    ) -> BaseFingerprint:
        """Where no engine of a base is started here, the first one found is taken at its word."""
        if len(unknown) > 1:
            raise EngineUnreachable("what either base computes is not known yet: set serving.next_model later")
        if await asyncio.to_thread(self._has_own, unknown[0].base_revision):
            raise EngineUnreachable("what this base computes is not known yet: a replica that is started here shows it")
        log.warning("base_taken_at_its_word", replica=replica.name, base_revision=unknown[0].base_revision)
        return await self._keep(unknown[0], engine, name, replica)

    async def _keep(self, of: Fingerprints, engine: Engine, name: str, replica: Replica) -> BaseFingerprint:
        cases = await take(engine, name)
        return await asyncio.to_thread(of.keep, cases, replica.name)

    async def _compare(self, engine: Engine, name: str, known: BaseFingerprint) -> None:
        check_difference(await smoke(engine, name, known.cases), self._tolerance)

    def _has_own(self, base_revision: str) -> bool:
        with self._database.reading() as session:
            own = [row for row in fleet.replicas(session) if not row.discovered and row.base_revision == base_revision]
        return any(row.state is not ReplicaState.DOWN for row in own)

    def _identified(self, lease: Lease, replica: Replica, found: dict[str, object]) -> None:
        with self._database.transaction() as session:
            mark_identified(session, lease, replica, **found)

    def _failed(self, lease: Lease, replica: Replica, version: str) -> None:
        with self._database.transaction() as session:
            mark_failed(session, lease, replica, version)
