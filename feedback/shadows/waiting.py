"""Mirrored answers that no judge has been asked about, with those that were shown instead, opened."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select

from feedback.datasets.archive import ENVELOPE, UNREADABLE, envelope_of
from feedback.datasets.redaction import Redactor
from feedback.shadows.comparison import Comparison, compare
from feedback.tables import ChoiceRow, InferenceRow, ShadowVerdictRow
from feedback.tallying.trials import Trial
from feedback.votes import Answered
from infra.clock import now
from infra.contracts.events import INFERENCE_TOPIC, SHADOW, Inference, InferenceStatus
from infra.database.engine import Database
from infra.envelopes import Sealer
from infra.eventlog.base import Position

PIECE = 200  # answers that are open at one time
Row = InferenceRow.__table__.c  # as they are: nothing is mapped


@dataclass
class Batch:
    """`refused` are mirrored answers of which a judge can't be asked, now or later."""

    comparisons: list[Comparison] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Waiting:
    database: Database
    sealer: Sealer
    redactor: Redactor | None = None

    def batch(self, trial: Trial, most: int) -> Batch:
        """Those that came first, about so many. One whose shown answer has not come yet is left for later."""
        batch = Batch()
        for mirrored in self._mirrored(trial):
            shown = self._opened(trial, {event.body.shadow_of or "" for event in mirrored})
            for event in mirrored:
                if other := shown.get(event.body.shadow_of or ""):
                    found = compare(other, event, now())
                    batch.refused += [] if found else [event.body.response_id]
                    batch.comparisons += [found] if found else []
            if len(batch.comparisons) + len(batch.refused) >= most:
                break
        return batch

    def _mirrored(self, trial: Trial) -> Iterator[list[Answered]]:
        """All that wait, in the order in which they were stored."""
        rows = self._rows(trial)
        while rows:
            yield list(self._open(rows))
            at, last = rows[-1].received_at, rows[-1].response_id
            later = or_(Row.received_at > at, and_(Row.received_at == at, Row.response_id > last))
            rows = self._rows(trial, later) if len(rows) == PIECE else []

    def _rows(self, trial: Trial, *later: ColumnElement[bool]) -> Sequence[Any]:
        mine = (Row.tenant == trial.tenant, Row.rollout_id == trial.rollout_id, ~Row.rateable, *later)
        usable = (Row.status == InferenceStatus.COMPLETED, Row.stored, Row.consent_train, Row.erased_at.is_(None))
        choice, verdict = ChoiceRow, ShadowVerdictRow
        is_shadow = select(choice.index).where(
            choice.tenant == Row.tenant, choice.response_id == Row.response_id, choice.arm == SHADOW
        )
        is_judged = select(verdict.win).where(verdict.tenant == Row.tenant, verdict.response_id == Row.response_id)
        query = select(*(Row[name] for name in ENVELOPE), Row.received_at, Row.response_id)
        query = query.where(*mine, *usable, is_shadow.exists(), ~is_judged.exists())
        with self.database.reading() as session:
            return session.execute(query.order_by(Row.received_at, Row.response_id).limit(PIECE)).all()

    def _opened(self, trial: Trial, response_ids: set[str]) -> dict[str, Answered]:
        these = (Row.tenant == trial.tenant, Row.response_id.in_(response_ids), Row.erased_at.is_(None))
        with self.database.reading() as session:
            rows = session.execute(select(*(Row[name] for name in ENVELOPE)).where(*these)).all()
        return {event.body.response_id: event for event in self._open(rows)}

    def _open(self, rows: Sequence[Any]) -> Iterator[Answered]:
        """What can't be read is passed over: its key is gone, and the row will be blank."""
        for row in rows:
            envelope, at = envelope_of(row), Position(INFERENCE_TOPIC, row.log_partition, row.log_offset)
            try:
                body = self.sealer.open(envelope, Inference)
            except UNREADABLE:
                continue
            yield Answered(envelope, self.redactor.inference(body)[0] if self.redactor else body, at)
