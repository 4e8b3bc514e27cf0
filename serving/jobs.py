"""Loads and unloads that run beside the reconciler: one per replica and name at a time, tried again after a while."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

import structlog

from infra.registry.errors import RegistryError
from infra.registry.leases import Lease
from serving.errors import EngineRefused, EngineUnreachable, Refused, SmokeFailed
from serving.metrics import Metrics
from serving.reconcile import Job, Prepare, Recheck
from serving.troubles import Trouble

UNREACHABLE_S = 0.5
REFUSED_S = 5.0

Key = tuple[str, str]  # address, name
Work = Callable[[Lease, Job], Awaitable[None]]

log = structlog.get_logger()


class Jobs:
    """`troubles` grows by what is refused; whoever has dealt with one forgets it."""

    def __init__(self, work: Work, changed: asyncio.Event, metrics: Metrics, *, recheck_s: float = 60) -> None:
        self._work, self._changed, self._metrics, self._recheck_s = work, changed, metrics, recheck_s
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._not_before: dict[Key, float] = {}
        self._done_at: dict[Key, float] = {}
        self.troubles: dict[str, Trouble] = {}

    def start(self, lease: Lease, jobs: Iterable[Job], *, seen_at: float) -> None:
        """Begins what is not under way; raises what an earlier job did not expect.

        A job that was done after the world was looked at (`seen_at`, monotonic) is not needed any more.
        """
        self._reap()
        for job in jobs:
            key = _key(job)
            is_due = self._not_before.get(key, 0.0) <= time.monotonic() and self._done_at.get(key, 0.0) <= seen_at
            if is_due and key not in self._running:
                self._running[key] = asyncio.create_task(self._run(lease, job))

    def forget(self, still_wanted: Iterable[str]) -> None:
        """Troubles with versions that nobody wants any more."""
        kept = set(still_wanted)
        self.troubles = {version: trouble for version, trouble in self.troubles.items() if version in kept}

    async def close(self) -> None:
        """A cancelled job leaves nothing half done: the next controller looks again."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._running.clear()

    def _reap(self) -> None:
        for key, task in list(self._running.items()):
            if task.done():
                del self._running[key]
                task.result()

    async def _run(self, lease: Lease, job: Job) -> None:
        try:
            await self._work(lease, job)
            self.troubles.pop(job.name, None)
            self._done_at[_key(job)] = time.monotonic()
            if isinstance(job, Recheck):
                self._not_before[_key(job)] = time.monotonic() + self._recheck_s
        except Refused as error:
            self._refuse(job, Trouble(str(error), loads=isinstance(error, SmokeFailed)))
        except EngineRefused as error:
            self._refuse(job, Trouble(f"the engine refused it: {error}", loads=True))
        except (EngineUnreachable, RegistryError) as error:
            self._later(job, UNREACHABLE_S, str(error))
        self._changed.set()

    def _refuse(self, job: Job, trouble: Trouble) -> None:
        if isinstance(job, Prepare):
            self.troubles[job.version] = trouble
            self._metrics.refused.inc()
            log.error("version_refused", version=job.version, replica=job.replica.name, reason=trouble.reason)
        self._later(job, REFUSED_S, trouble.reason)

    def _later(self, job: Job, after_s: float, reason: str) -> None:
        self._not_before[_key(job)] = time.monotonic() + after_s
        self._metrics.failed.inc()
        log.warning("job_postponed", name=job.name, replica=job.replica.name, reason=reason, after_s=after_s)


def _key(job: Job) -> Key:
    return job.replica.address, job.name
