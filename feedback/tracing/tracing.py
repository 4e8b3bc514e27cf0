"""Answers one question: by the command at once, by the feedback process for whoever asked over HTTP."""

from dataclasses import dataclass

from feedback.tracing.lineage import Lineage
from feedback.tracing.reach import Reach
from feedback.tracing.responses import Responses
from infra.artifacts import ArtifactStore
from infra.contracts.traces import EventTrace, Question, ResponseTrace
from infra.database.engine import Database
from infra.envelopes import Sealer


@dataclass(frozen=True)
class Tracing:
    database: Database
    sealer: Sealer
    artifacts: ArtifactStore

    def answer(self, tenant: str, question: Question) -> ResponseTrace | EventTrace:
        """Raises NotFound."""
        if question.event_id is not None:
            return Reach(self.database, self.artifacts, tenant).of(question.event_id)
        lineage = Lineage(self.database, self.artifacts, tenant)
        return Responses(self.database, self.sealer, tenant, lineage).of(question)
