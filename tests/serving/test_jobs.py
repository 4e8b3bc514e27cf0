"""Loads and unloads beside the reconciler: one at a time, tried again later, troubles remembered."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from infra.registry.errors import Conflict
from infra.registry.leases import Lease
from serving.errors import EngineRefused, EngineUnreachable, Refused, SmokeFailed
from serving.jobs import Jobs
from serving.metrics import Metrics
from serving.reconcile import Job, Prepare, Recheck, Unload
from tests.support.routing import make_replica

LEASE = Lease("controller", "test", 1)
V1, V2 = Prepare(make_replica(), "v1"), Prepare(make_replica(), "v2")


@dataclass
class Worker:
    """Does nothing but count, or fails as told; `gate` holds it back."""

    fails: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    done: list[Job] = field(default_factory=list)

    async def work(self, _lease: Lease, job: Job) -> None:
        await self.gate.wait()
        self.done.append(job)
        if self.fails:
            raise self.fails


@asynccontextmanager
async def jobs_of(worker: Worker) -> AsyncIterator[tuple[Jobs, asyncio.Event]]:
    changed = asyncio.Event()
    jobs = Jobs(worker.work, changed, Metrics(CollectorRegistry()))
    try:
        yield jobs, changed
    finally:
        await jobs.close()


async def ran(jobs: Jobs, changed: asyncio.Event, *wanted: Job) -> None:
    """Starts them and waits until one has ended."""
    changed.clear()
    jobs.start(LEASE, wanted, seen_at=time.monotonic())
    await asyncio.wait_for(changed.wait(), 10)


async def test_one_job_of_a_name_runs_at_a_time_and_others_beside_it() -> None:
    worker = Worker()
    async with jobs_of(worker) as (jobs, _):
        for _ in range(3):
            jobs.start(LEASE, [V1, V2], seen_at=time.monotonic())
        worker.gate.set()
        await asyncio.sleep(0.05)
        assert sorted(job.version for job in worker.done) == ["v1", "v2"]  # type: ignore[union-attr]  # both are loads


async def test_a_job_that_was_done_after_the_world_was_seen_is_not_done_again() -> None:
    worker = Worker()
    worker.gate.set()
    async with jobs_of(worker) as (jobs, changed):
        seen_at = time.monotonic()
        await ran(jobs, changed, V1)
        jobs.start(LEASE, [V1], seen_at=seen_at)
        await asyncio.sleep(0.05)
        assert worker.done == [V1]
        await ran(jobs, changed, V1)
        assert worker.done == [V1, V1], "an engine that has restarted since needs it again"


@pytest.mark.parametrize(
    ("error", "loads", "told"),
    [
        (Refused("holds NaN"), False, "holds NaN"),
        (SmokeFailed("differs by 1 nat"), True, "differs by 1 nat"),
        (EngineRefused("500 rank"), True, "the engine refused it: 500 rank"),
    ],
)
async def test_a_refusal_is_remembered_and_says_whether_the_files_were_to_blame(
    error: Exception, loads: bool, told: str
) -> None:
    worker = Worker(fails=error)
    worker.gate.set()
    async with jobs_of(worker) as (jobs, changed):
        await ran(jobs, changed, V1)
        assert (jobs.troubles["v1"].reason, jobs.troubles["v1"].loads) == (told, loads)


@pytest.mark.parametrize("error", [EngineUnreachable("gone"), Conflict("it restarted")])
async def test_an_engine_that_is_away_is_nobodys_fault_and_tried_again_later(error: Exception) -> None:
    worker = Worker(fails=error)
    worker.gate.set()
    async with jobs_of(worker) as (jobs, changed):
        await ran(jobs, changed, V1)
        assert jobs.troubles == {}
        jobs.start(LEASE, [V1], seen_at=time.monotonic())
        await asyncio.sleep(0.05)
        assert worker.done == [V1], "not at once"


async def test_a_job_that_succeeds_ends_the_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.jobs.REFUSED_S", 0.0)
    worker = Worker(fails=Refused("holds NaN"))
    worker.gate.set()
    async with jobs_of(worker) as (jobs, changed):
        await ran(jobs, changed, V1)
        worker.fails = None
        await ran(jobs, changed, V1)
        assert jobs.troubles == {}


async def test_troubles_of_versions_nobody_wants_are_forgotten() -> None:
    worker = Worker(fails=Refused("holds NaN"))
    worker.gate.set()
    async with jobs_of(worker) as (jobs, changed):
        await ran(jobs, changed, V1)
        jobs.forget(["v2"])
        assert jobs.troubles == {}


async def test_a_refused_unload_is_no_trouble_of_the_version() -> None:
    worker = Worker(fails=EngineRefused("404"))
    worker.gate.set()
    async with jobs_of(worker) as (jobs, changed):
        await ran(jobs, changed, Unload(make_replica(), "v1"))
        assert jobs.troubles == {}


async def test_what_nobody_foresaw_is_raised_at_the_next_start() -> None:
    worker = Worker(fails=ZeroDivisionError("a bug"))
    worker.gate.set()
    async with jobs_of(worker) as (jobs, _):
        jobs.start(LEASE, [V1], seen_at=time.monotonic())
        await asyncio.sleep(0.05)
        with pytest.raises(ZeroDivisionError):
            jobs.start(LEASE, [], seen_at=time.monotonic())


async def test_closing_cancels_what_is_under_way() -> None:
    worker = Worker()
    async with jobs_of(worker) as (jobs, _):
        jobs.start(LEASE, [V1], seen_at=time.monotonic())
        await asyncio.sleep(0)
    assert worker.done == []


async def test_a_recheck_waits_for_its_turn_while_other_jobs_of_that_replica_go_on() -> None:
    worker, changed = Worker(), asyncio.Event()
    worker.gate.set()
    jobs, check = Jobs(worker.work, changed, Metrics(CollectorRegistry()), recheck_s=60), Recheck(make_replica())
    await ran(jobs, changed, check)
    await ran(jobs, changed, check, V1)
    assert worker.done == [check, V1]
    await jobs.close()
