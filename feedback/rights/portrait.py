"""Everything there is of one person, as JSON objects: every event with its opened body, every row made of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, select

from feedback.datasets.archive import UNREADABLE, envelope_of
from feedback.datasets.rows import Table
from feedback.datasets.snapshot import dataset_path
from feedback.datasets.standing import chunks
from feedback.rights.traces import known_traces
from feedback.tables import ChoiceRow, InferenceRow, ShadowVerdictRow, VoteEventRow, VoteRow, VoteTargetRow
from infra.artifacts import ArtifactStore
from infra.cases import open_case
from infra.clock import now
from infra.contracts.events import Feedback, Inference
from infra.database.engine import Database
from infra.database.tables import Base, CaseRow
from infra.envelopes import Sealer
from infra.registry import adapters, erasures

Line = dict[str, Any]
NOT_SHOWN = frozenset({"sealed", "key_id"})  # the body stands beside them, opened
BODIES: dict[type[Base], tuple[str, type[Inference] | type[Feedback]]] = {
    InferenceRow: ("inference", Inference),
    VoteEventRow: ("feedback", Feedback),
}


@dataclass(frozen=True)
class Portrait:
    """One person as of now. Each line has a `kind`; what can't be read any more says so."""

    database: Database
    sealer: Sealer
    artifacts: ArtifactStore
    tenant: str
    rater: str

    def lines(self) -> Iterator[Line]:
        as_of = now()
        yield {"kind": "export", "tenant": self.tenant, "rater": self.rater, "as_of": as_of}
        for table in BODIES:
            yield from self._events(table)
        yield from self._choices()
        yield from self._votes()
        yield from self._dataset_rows(as_of)
        yield from self._cases()
        with self.database.reading() as session:
            for row in erasures.of_rater(session, self.tenant, self.rater):
                yield {"kind": "erasure", **_columns(row)}

    def _events(self, table: Any) -> Iterator[Line]:
        kind, body = BODIES[table]
        order = (table.occurred_at, table.event_id)
        for row in self._all(table, table.rater == self.rater, *order):
            yield {**_columns(row), "kind": kind, "body": self._opened(row, body)}

    def _opened(self, row: Any, kind: type[Inference] | type[Feedback]) -> Line | None:
        try:
            return self.sealer.open(envelope_of(row), kind).model_dump(mode="json")
        except UNREADABLE:
            return None

    def _choices(self) -> Iterator[Line]:
        with self.database.reading() as session:
            mine = (InferenceRow.tenant == self.tenant, InferenceRow.rater == self.rater)
            responses = session.scalars(select(InferenceRow.response_id).where(*mine)).all()
        for ids in chunks(responses):
            for row in self._all(ChoiceRow, ChoiceRow.response_id.in_(ids), ChoiceRow.response_id, ChoiceRow.index):
                yield {"kind": "choice", **_columns(row)}
            for row in self._all(ShadowVerdictRow, ShadowVerdictRow.response_id.in_(ids), ShadowVerdictRow.response_id):
                yield {"kind": "shadow_verdict", **_columns(row)}

    def _votes(self) -> Iterator[Line]:
        for row in self._all(VoteRow, VoteRow.rater == self.rater, VoteRow.occurred_at, VoteRow.vote_id):
            found = self._all(VoteTargetRow, VoteTargetRow.vote_id == row.vote_id, VoteTargetRow.target)
            yield {"kind": "vote", **_columns(row), "targets": [one.target for one in found]}

    def _dataset_rows(self, as_of: datetime) -> Iterator[Line]:
        """By dataset and row id; the text is the events' above."""
        with self.database.reading() as session:
            traces = known_traces(session, self.tenant, self.rater, as_of)
            datasets = [row.dataset_id for row in adapters.every_dataset(session, self.tenant)]
        for dataset_id in datasets:
            for name, row in traces.rows(self.artifacts, dataset_path(self.tenant, dataset_id)):
                table, split = name.split("/")[:2]
                identity = "prompt_id" if table == Table.PROMPTS else "pair_id"
                yield {
                    "kind": "dataset_row", "dataset_id": dataset_id, "table": table, "split": split,
                    identity: row[identity], "source_event_ids": row["source_event_ids"], "weight": row["weight"],
                }  # fmt: skip

    def _cases(self) -> Iterator[Line]:
        """What an operator has every new version asked again; who that is and why is no word of this person's."""
        for row in self._all(CaseRow, CaseRow.rater == self.rater, CaseRow.name):
            try:
                body = open_case(self.sealer, row).model_dump(mode="json")
            except UNREADABLE:
                body = None
            yield {"kind": "regression_case", "name": row.name, "response_id": row.response_id, "body": body}

    def _all(self, table: Any, mine: ColumnElement[bool], *order: Any) -> Iterator[Any]:
        query = select(table).where(table.tenant == self.tenant, mine).order_by(*order)
        with self.database.reading() as session:
            yield from session.scalars(query.execution_options(yield_per=1000))


def _columns(row: Base) -> Line:
    names = (column.key for column in type(row).__mapper__.column_attrs)
    return {name: getattr(row, name) for name in names if name not in NOT_SHOWN}
