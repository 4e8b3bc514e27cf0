"""The controller: looks, plans, does, again and again. One leads at a time; it can be killed between any two lines."""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy.exc import OperationalError

from infra.bell import Bell
from infra.clock import now
from infra.contracts.routing import ReplicaState
from infra.database.engine import Database
from infra.registry import fleet, leases
from infra.registry.errors import Conflict, LeaseLost
from infra.registry.leases import Lease
from infra.settings import ServingSettings
from serving.checkup import Checkup
from serving.discovery import Discovery, found_replica
from serving.gating import Gating
from serving.jobs import Jobs
from serving.metrics import Metrics
from serving.observer import Observer
from serving.preparation import Preparation
from serving.reconcile import Identify, Job, Plan, Prepare, Recheck, plan, rechecks
from serving.rollout import apply_plan
from serving.snapshot import read_world
from serving.troubles import Trouble
from serving.watching import Watching
from serving.world import World, misfits, wanted

LEASE = "controller"
HURRY = 4  # looks per poll while something loads or drains: people wait for it

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Seat:
    """`alias` and `base_revision` are what a fresh table begins with; `holder` is who takes the lease. `next_base` is
    the one that may follow, empty where there is none."""

    alias: str
    base_revision: str
    next_base: str
    holder: str
    lease_ttl_s: float


@dataclass(frozen=True, slots=True)
class Hands:
    """What the controller works with. Whoever has news sets `changed`."""

    preparation: Preparation
    checkup: Checkup
    discovery: Discovery
    gating: Gating
    watching: Watching
    observer: Observer
    changed: asyncio.Event
    bell: Bell
    metrics: Metrics


class Controller:
    """`lease` is None while another one leads; `ready` counts the replicas that may answer users."""

    def __init__(self, database: Database, settings: ServingSettings, seat: Seat, hands: Hands) -> None:
        self._database, self._settings, self._seat, self._hands = database, settings, seat, hands
        self._jobs = Jobs(self._work, hands.changed, hands.metrics, recheck_s=settings.recheck_s)
        self._beat_after = datetime.min.replace(tzinfo=UTC)
        self._hurries = False
        self._enrolled: frozenset[str] | None = None
        self.lease: Lease | None = None
        self.ready = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Leads whenever nobody else does, until told to stop."""
        self._hands.discovery.start()
        while not stop.is_set():
            try:
                self.lease = await asyncio.to_thread(self._acquire)
                if self.lease is None:
                    await self._pause()
                    continue
                log.info("controller_leads", epoch=self.lease.epoch)
                self._enrolled = None
                await self._lead(self.lease, stop)
            except LeaseLost as error:
                log.warning("controller_replaced", reason=str(error))
            except OperationalError as error:
                log.warning("registry_unreachable", reason=str(error.orig))
                await self._pause()
        await self.close()

    async def close(self) -> None:
        await self._jobs.close()
        await self._hands.observer.close()
        await self._hands.discovery.close()
        if self.lease is not None:
            with contextlib.suppress(LeaseLost, OperationalError):
                await asyncio.to_thread(self._release, self.lease)

    async def tick(self, lease: Lease) -> None:
        """One look and what follows from it; raises LeaseLost."""
        with self._hands.metrics.tick.time():
            seen_at = time.monotonic()
            await asyncio.to_thread(self._hands.watching.turn, lease)
            world = await asyncio.to_thread(self._read, lease)
            self._hands.observer.watch(view.row.address for view in world.replicas)
            self._hurries = world.is_moving
            planned = plan(world, now())
            try:
                await asyncio.to_thread(self._apply, lease, world, planned)
                self._jobs.start(lease, [*planned.jobs, *rechecks(world)], seen_at=seen_at)
                if await asyncio.to_thread(self._hands.gating.decide_ready, lease, self._troubles(world)):
                    self._hands.changed.set()
            except Conflict as error:  # a replica or a person was quicker: look once more
                log.info("plan_outdated", reason=str(error))
                return
            self._jobs.forget(version for base in world.bases for version in wanted(world, base))
        self._measure(world, planned)

    def _troubles(self, world: World) -> dict[str, Trouble]:
        """With candidates and with their bases."""
        strangers = {version: Trouble(reason, loads=False) for version, reason in misfits(world).items()}
        return {**self._jobs.troubles, **strangers}

    async def _lead(self, lease: Lease, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.tick(lease)
            await self._pause()

    async def _pause(self) -> None:
        """Until something has changed here, but no longer than one poll."""
        longest = self._settings.poll_s / (HURRY if self._hurries else 1)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hands.changed.wait(), longest)
        self._hands.changed.clear()

    async def _work(self, lease: Lease, job: Job) -> None:
        if isinstance(job, Prepare):
            await self._hands.preparation.prepare(lease, job.replica, job.version)
        elif isinstance(job, Identify):
            await self._hands.checkup.identify(lease, job.replica)
        elif isinstance(job, Recheck):
            await self._hands.checkup.recheck(lease, job.replica)
        else:
            await self._hands.preparation.unload(job.replica, job.name)

    def _acquire(self) -> Lease | None:
        with self._database.transaction() as session:
            return leases.acquire(session, LEASE, self._seat.holder, self._seat.lease_ttl_s)

    def _release(self, lease: Lease) -> None:
        with self._database.transaction() as session:
            leases.release(session, lease)

    def _read(self, lease: Lease) -> World:
        self._beat(lease)
        self._enrol(lease)
        with self._database.reading() as session:
            return read_world(
                session,
                self._settings,
                alias=self._seat.alias,
                base_revision=self._seat.base_revision,
                next_base=self._seat.next_base,
                seen=self._hands.observer.seen,
                refused={version: trouble.reason for version, trouble in self._jobs.troubles.items()},
            )

    def _enrol(self, lease: Lease) -> None:
        """Whenever discovery has found something else."""
        found = self._hands.discovery.found
        if found is None or found == self._enrolled:
            return
        with self._database.transaction() as session:
            fleet.enrol_replicas(session, lease, [found_replica(address) for address in found])
        self._enrolled = found

    def _beat(self, lease: Lease) -> None:
        """Seldom: each heartbeat waits for the disk."""
        if (at := now()) < self._beat_after:
            return
        with self._database.transaction() as session:
            leases.heartbeat(session, lease, self._seat.lease_ttl_s)
        self._beat_after = at + timedelta(seconds=self._seat.lease_ttl_s / 4)

    def _apply(self, lease: Lease, world: World, planned: Plan) -> None:
        if not (planned.replicas or planned.moves or planned.table):
            return
        with self._database.transaction() as session:
            apply_plan(session, lease, world, planned)
        if planned.table is not None:
            self._hands.bell.ring()

    def _measure(self, world: World, planned: Plan) -> None:
        self._hands.metrics.revision.set(planned.table.revision if planned.table else world.revision)
        self.ready = sum(view.row.state is ReplicaState.READY for view in world.replicas)
        self._hands.metrics.ready.set(self.ready)
        for move in planned.moves:
            self._hands.metrics.moves.labels(move.target).inc()
