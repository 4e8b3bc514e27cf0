"""How much each rater counts in a rollout: as the last dataset before it has it, for as long as the rollout lasts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median

import pyarrow.parquet as pq
import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from feedback.datasets.shards import WEIGHTS
from feedback.tallying.trials import Trial
from feedback.votes import AI
from infra.artifacts import ArtifactStore, MissingArtifact
from infra.database.engine import Database
from infra.database.tables import DatasetRow

RATERS = f"{WEIGHTS}/raters.parquet"
NOBODY = "nobody:"  # how the unit of a judgement begins that names no rater
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Trust:
    """`factors` by rater and segment; under None what a rater counts wherever it has no line for a segment."""

    factors: Mapping[tuple[str, str | None], float] = field(default_factory=dict)
    newcomer: float = 1.0

    def weight(self, rater: str | None, segment: str) -> float:
        """1 for what is no rater; a rater whom the dataset does not know counts as its median rater."""
        if rater is None:
            return 1.0
        everywhere = self.factors.get((rater, None), self.newcomer)
        return self.factors.get((rater, segment or None), everywhere)


def frozen_trust(database: Database, artifacts: ArtifactStore, trial: Trial) -> Trust:
    """Of the newest dataset from before the rollout was asked for whose weights are there: an erasure may take them."""
    with database.reading() as session:
        paths = _datasets(session, trial)
    for path in paths:
        try:
            return read_trust(artifacts, f"{path}/{RATERS}")
        except MissingArtifact:
            log.warning("rater_weights_missing", rollout_id=trial.rollout_id, dataset=path)
    return Trust()


def read_trust(artifacts: ArtifactStore, path: str) -> Trust:
    """Raises MissingArtifact."""
    with artifacts.open(path) as file:
        lines = pq.read_table(file, columns=["unit", "segment", "factor"]).to_pylist()
    people = [line for line in lines if not line["unit"].startswith((AI, NOBODY))]
    factors = {(line["unit"], line["segment"]): line["factor"] for line in people}
    whole = [factor for (_, segment), factor in factors.items() if segment is None]
    return Trust(factors, median(whole) if whole else 1.0)


def _datasets(session: Session, trial: Trial) -> list[str]:
    before = (DatasetRow.tenant == trial.tenant, DatasetRow.alias == trial.alias)
    query = select(DatasetRow.path).where(*before, DatasetRow.created_at < trial.requested_at)
    return list(session.scalars(query.order_by(DatasetRow.created_at.desc(), DatasetRow.dataset_id)))
