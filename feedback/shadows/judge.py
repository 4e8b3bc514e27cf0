"""Has mirrored answers judged beside the shown ones: one batch at a time, and never twice.

One process at a time asks, under a lease. Whatever keeps a batch from being scored is counted by its kind, makes no
evidence, and is tried again.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from feedback.errors import NotScored
from feedback.holding import alone
from feedback.lending import clear_lent, lent
from feedback.metrics import Metrics
from feedback.shadows.comparison import Comparison, wins_of
from feedback.shadows.verdicts import all_stand, store
from feedback.shadows.waiting import Waiting
from feedback.tallying.trials import Trial, on_traffic
from infra.artifacts import ArtifactStore
from infra.contracts.rollouts import StepKind
from infra.database.engine import Database
from infra.registry import judges, leases, rollouts
from infra.registry.leases import Lease

LEASE = "shadow-judge"
BATCH = 200  # requests that are judged together: each batch loads the judge
Score = Callable[[str, str, int], list[float]]  # of a judge, a file and how many; raises NotScored, or Stopping
log = structlog.get_logger()


@dataclass
class ShadowJudge:
    database: Database
    artifacts: ArtifactStore
    waiting: Waiting
    score: Score
    metrics: Metrics
    lease_ttl_s: float
    _cleared: bool = field(default=False, init=False)
    _most: int = field(default=BATCH, init=False)
    _passed_over: set[str] = field(default_factory=set, init=False)

    def turn(self) -> int:
        """A batch of each rollout that has, or had, a shadow step; returns how many were judged. Raises Stopping."""
        with self.database.reading() as session:
            trials = [trial for trial in on_traffic(session) if any(s.kind is StepKind.SHADOW for s in trial.steps)]
        if self._cleared and not trials:
            return 0
        judged = 0
        with alone(self.database, LEASE, self.lease_ttl_s) as lease:
            if lease is not None:
                clear_lent(self.artifacts)  # nobody else is under way: what lies there was left
                self._cleared = True
                judged = sum(self._judge(lease, trial) for trial in trials)
        return judged

    def _judge(self, lease: Lease, trial: Trial) -> int:
        with self.database.reading() as session:
            judge = judges.judge_of(session, rollouts.get(session, trial.rollout_id))
        if judge is None:
            return 0
        batch = self.waiting.batch(trial, BATCH + len(self._passed_over))
        wins: dict[str, float | None] = dict.fromkeys(batch.refused)
        comparisons = [one for one in batch.comparisons if one.mirrored not in self._passed_over]
        judged = self._ask(trial, judge, comparisons[: self._most]) if comparisons else {}
        if wins or judged:
            with self.database.transaction() as session:
                leases.fence(session, lease)
                store(session, trial, judge, wins | judged)
        return len(judged)

    def _ask(self, trial: Trial, judge: str, comparisons: list[Comparison]) -> dict[str, float]:
        try:
            wins = wins_of(comparisons, self._scores(trial, judge, comparisons))
        except NotScored as error:
            log.warning("shadow_batch_not_scored", rollout_id=trial.rollout_id, judge=judge, reason=error.kind)
            self.metrics.shadow_batches.labels(error.kind).inc()
            if error.kind == "failed":
                self._narrow(comparisons)
            return {}
        self._most = BATCH
        log.info("shadow_batch_scored", rollout_id=trial.rollout_id, judge=judge, answers=len(wins))
        self.metrics.shadow_batches.labels("scored").inc()
        return wins

    def _narrow(self, comparisons: list[Comparison]) -> None:
        """One of them may be what breaks the judge: half as many next; what breaks it alone is left until a restart."""
        self._most = max(1, len(comparisons) // 2)
        if len(comparisons) == 1:
            self._passed_over.add(comparisons[0].mirrored)

    def _scores(self, trial: Trial, judge: str, comparisons: list[Comparison]) -> list[float]:
        """An erasure blanks rows first and then clears what is lent: a look once it is written leaves no gap."""
        conversations = [said for one in comparisons for said in one.conversations()]
        with lent(self.artifacts, conversations) as path:
            with self.database.reading() as session:
                if not all_stand(session, trial, comparisons):
                    raise NotScored("erased")
            return self.score(judge, path, len(conversations))
