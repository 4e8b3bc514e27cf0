"""Where an answer came from: who wrote it under which arm and step, what made that version, who voted."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from feedback.datasets.archive import UNREADABLE, envelope_of
from feedback.tables import ChoiceRow, InferenceRow
from feedback.tracing import events
from feedback.tracing.lineage import Lineage
from infra.contracts.events import Inference
from infra.contracts.rollouts import Step
from infra.contracts.traces import Question, ResponseTrace, TracedChoice, TracedEvent, TracedRollout
from infra.database.engine import Database
from infra.database.tables import RolloutRow
from infra.envelopes import Sealer
from infra.registry import rollouts
from infra.registry.errors import NotFound

VOTES_MOST = 100
CHOICE = tuple(TracedChoice.model_fields)


@dataclass(frozen=True)
class Responses:
    """One tenant's."""

    database: Database
    sealer: Sealer
    tenant: str
    lineage: Lineage

    def of(self, question: Question) -> ResponseTrace:
        """Raises NotFound."""
        response_id = question.response_id or ""
        with self.database.reading() as session:
            row = session.get(InferenceRow, (self.tenant, response_id))
            if row is None:
                raise NotFound(f"no answer {response_id} is stored: it never came, or is older than feedback.keep_days")
            choices = self._choices(session, response_id)
            votes, total = events.votes_on_answer(session, row, VOTES_MOST)
            rollout = self._rollout(session, row)
        return self._told(question, row, choices, votes, total, rollout)

    def _told(
        self, question: Question, row: InferenceRow, choices: list[TracedChoice], votes: list[TracedEvent],
        votes_total: int, rollout: TracedRollout | None,
    ) -> ResponseTrace:  # fmt: skip
        body = self._opened(row)
        versions = (self.lineage.of(one, question) for one in dict.fromkeys(choice.version for choice in choices))
        return ResponseTrace(
            response_id=row.response_id,
            event=events.tell_answer(row),
            alias=row.alias,
            status=row.status,
            base_revision=row.base_revision,
            routing_revision=body.routing_revision if body else None,
            shadow_of=body.shadow_of if body else None,
            rollout=rollout,
            choices=choices,
            versions=[version for version in versions if version],
            votes=votes,
            votes_total=votes_total,
        )

    def _choices(self, session: Session, response_id: str) -> list[TracedChoice]:
        mine = (ChoiceRow.tenant == self.tenant, ChoiceRow.response_id == response_id)
        rows = session.scalars(select(ChoiceRow).where(*mine).order_by(ChoiceRow.index)).all()
        return [TracedChoice(**{name: getattr(row, name) for name in CHOICE}) for row in rows]

    def _rollout(self, session: Session, row: InferenceRow) -> TracedRollout | None:
        found = rollouts.get(session, row.rollout_id) if row.rollout_id else None
        if found is None:
            return None
        return TracedRollout(
            rollout_id=found.rollout_id, kind=found.kind, state=found.state, version=found.version,
            from_version=found.from_version, step=row.rollout_step, title=_title(found, row.rollout_step),
        )  # fmt: skip

    def _opened(self, row: InferenceRow) -> Inference | None:
        """None where its person was erased, or its key or body is not there."""
        if row.erased_at is not None:
            return None
        try:
            return self.sealer.open(envelope_of(row), Inference)
        except UNREADABLE:
            return None


def _title(rollout: RolloutRow, step: int | None) -> str | None:
    if step is None or step >= len(rollout.steps):
        return None
    return Step.model_validate(rollout.steps[step]).title
