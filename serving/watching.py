"""Looks at what raters do with rollouts that are on traffic, now and then, and keeps the last look in the registry."""

import math
import time

import structlog

from infra.clock import now
from infra.database.engine import Database
from infra.database.tables import RolloutRow
from infra.registry import judges, rollouts, tallies
from infra.registry.leases import Lease
from infra.registry.rollouts import ON_TRAFFIC
from serving.metrics import Metrics
from serving.monitors.limits import Limits
from serving.monitors.look import look

log = structlog.get_logger()


class Watching:
    """`every_s`: a look reads all tallies of a rollout, so it is not taken at every turn of the controller."""

    def __init__(self, database: Database, limits: Limits, metrics: Metrics, *, every_s: float) -> None:
        self._database, self._limits, self._metrics, self._every_s = database, limits, metrics, every_s
        self._looked_at: dict[tuple[str, int], float] = {}  # (rollout, step): a new step is looked at soon

    def turn(self, lease: Lease) -> int:
        """How many rollouts were looked at; raises LeaseLost."""
        with self._database.reading() as session:
            running = [row for row in rollouts.unfinished(session) if row.state in ON_TRAFFIC]
        due = [row for row in running if self._is_due(row)]
        for row in due:
            self._look_at(lease, row)
        self._looked_at = {key: at for key, at in self._looked_at.items() if key in set(map(_key, running))}
        return len(due)

    def _is_due(self, row: RolloutRow) -> bool:
        return time.monotonic() >= self._looked_at.get(_key(row), -math.inf) + self._every_s

    def _look_at(self, lease: Lease, row: RolloutRow) -> None:
        began = time.monotonic()
        with self._database.reading() as session:
            found = tallies.of_rollout(session, row.tenant, row.rollout_id)
            judge = judges.judge_of(session, row)
        seen = look(rollouts.steps_of(row), row.step, found, self._limits, now(), judge)
        with self._database.transaction() as session:
            rollouts.store_look(session, lease, row.rollout_id, seen)
        self._looked_at[_key(row)] = time.monotonic()
        self._metrics.look.observe(time.monotonic() - began)
        log.debug("rollout_looked_at", rollout=row.rollout_id, step=row.step, verdict=seen.verdict)


def _key(row: RolloutRow) -> tuple[str, int]:
    return row.rollout_id, row.step
