"""Where in datasets one person's text may be: found by the cells of their events, then by the events themselves."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from feedback.cells import PROMPTS, VOTES, Cell
from feedback.datasets import index
from feedback.datasets.facts import event_id
from feedback.datasets.shards import MARGIN_SUFFIX, WEIGHTS
from feedback.datasets.standing import chunks
from feedback.intake import stale
from feedback.tables import InferenceRow, VoteEventRow, VoteTargetRow
from feedback.votes import AI, SESSION
from infra.artifacts import ArtifactStore
from infra.database.tables import ErasureRow

RATERS = f"{WEIGHTS}/raters.parquet"
COLUMNS = ("source_event_ids", "event_id", "unit", "rater", "occurred_at")  # what tells whose a row is
CLOCKS_APART = timedelta(minutes=10)  # of whoever asks for an erasure and whoever blanks
Cells = Mapping[str, frozenset[Cell]]  # by kind


@dataclass(frozen=True)
class Traces:
    """One person's events up to a moment, and the cells of everything that may be made of them."""

    rater: str
    up_to: datetime
    event_ids: frozenset[str]
    cells: Cells
    unknown_before: date = date.min  # events of earlier days have left the database: only the hash is known there

    def files(self, artifacts: ArtifactStore, directory: str) -> list[str]:
        """The files of one dataset, complete or not, that hold something of this person."""
        names = artifacts.files(directory)
        found = [name for name in names if self._may_hold(name) and self._holds(artifacts, f"{directory}/{name}")]
        if found and RATERS in names and self._is_rated(artifacts, f"{directory}/{RATERS}"):
            found.append(RATERS)
        return found

    def rows(self, artifacts: ArtifactStore, directory: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(file, row) of each row of the tables that is made of their events."""
        for name in artifacts.files(directory):
            if self._may_hold(name) and not name.startswith(index.DIRECTORY):
                table = read_columns(artifacts, f"{directory}/{name}", None)
                for row in table.filter(self._mine(table)).to_pylist():
                    yield name, row

    def _may_hold(self, name: str) -> bool:
        folder, _, file = name.rpartition("/")
        if not file.endswith(".parquet") or folder == WEIGHTS:
            return False
        kind = PROMPTS if PROMPTS in folder.split("/")[:2] else VOTES
        cell = Cell.parse(file.removesuffix(".parquet").removesuffix(MARGIN_SUFFIX))
        return cell.day < self.unknown_before or cell in self.cells[kind]

    def _holds(self, artifacts: ArtifactStore, path: str) -> bool:
        """A file that can't be read is taken to hold what is looked for."""
        try:
            return bool(pc.any(self._mine(read_columns(artifacts, path, COLUMNS))).as_py())
        except pa.ArrowInvalid:
            return True

    def _mine(self, table: pa.Table) -> pa.BooleanArray:
        """Facts have one event a row; rows of a table several, and whose last one it is."""
        if "source_event_ids" not in table.schema.names:
            return pa.array([event_id(value) in self.event_ids for value in table["event_id"].to_pylist()], pa.bool_())
        sources, raters = table["source_event_ids"].to_pylist(), table["rater"].to_pylist()
        moments = table["occurred_at"].to_pylist()
        mine = [
            not self.event_ids.isdisjoint(ids) or (rater == self.rater and at <= self.up_to)
            for ids, rater, at in zip(sources, raters, moments, strict=True)
        ]
        return pa.array(mine, pa.bool_())

    def _is_rated(self, artifacts: ArtifactStore, path: str) -> bool:
        units = read_columns(artifacts, path, COLUMNS)["unit"].to_pylist()
        return not {self.rater, f"{AI}{self.rater}"}.isdisjoint(units)


def erased_traces(session: Session, tombstone: ErasureRow, unknown_before: date) -> Traces:
    """Of somebody whose rows are blank: they carry the erasure's id.

    Which conversations they had is forgotten; votes on those are in cells that became stale with the blanking.
    """
    found = {table: table.erasure_id == tombstone.erasure_id for table in (InferenceRow, VoteEventRow)}
    traces = _traces(session, tombstone.tenant, tombstone.rater, tombstone.up_to, found)
    since = tombstone.requested_at - CLOCKS_APART
    cells = {kind: known | stale.since(session, tombstone.tenant, kind, since) for kind, known in traces.cells.items()}
    return replace(traces, unknown_before=unknown_before, cells=cells)


def known_traces(session: Session, tenant: str, rater: str, up_to: datetime) -> Traces:
    """Of somebody whose rows are there."""
    found = {table: (table.rater == rater) & (table.occurred_at <= up_to) for table in (InferenceRow, VoteEventRow)}
    return _traces(session, tenant, rater, up_to, found)


def _traces(
    session: Session, tenant: str, rater: str, up_to: datetime, mine: Mapping[Any, ColumnElement[bool]]
) -> Traces:
    asked, cast = InferenceRow, VoteEventRow
    columns = (asked.event_id, asked.occurred_at, asked.bucket, asked.response_id, asked.session_id)
    answers = session.execute(select(*columns).where(asked.tenant == tenant, mine[asked])).all()
    own = select(cast.event_id, cast.occurred_at, cast.bucket).where(cast.tenant == tenant, mine[cast])
    votes = session.execute(own).all()
    targets = {row.response_id for row in answers} | {f"{SESSION}{row.session_id}" for row in answers if row.session_id}
    others = (Cell.of(row.occurred_at, row.bucket) for row in votes_on(session, tenant, targets))
    cells = {
        PROMPTS: frozenset(Cell.of(row.occurred_at, row.bucket) for row in answers),
        VOTES: frozenset({*(Cell.of(row.occurred_at, row.bucket) for row in votes), *others}),
    }
    return Traces(rater, up_to, frozenset(row.event_id for row in (*answers, *votes)), cells)


def votes_on(session: Session, tenant: str, targets: Iterable[str]) -> Iterator[Any]:
    """Everybody's votes on these answers and conversations: when, in which bucket, of which kind, by whom."""
    cast, target = VoteEventRow, VoteTargetRow
    same = (target.tenant == cast.tenant) & (target.vote_id == cast.vote_id)
    columns = (cast.occurred_at, cast.bucket, cast.kind, cast.rater)
    query = select(*columns).join(target, same).where(target.tenant == tenant)
    for ids in chunks(targets):
        yield from session.execute(query.where(target.target.in_(ids)))


def read_columns(artifacts: ArtifactStore, path: str, columns: Iterable[str] | None) -> pa.Table:
    """All columns, or those of these that there are."""
    with artifacts.open(path) as file:
        known = pq.ParquetFile(file)
        names = known.schema_arrow.names
        return known.read([name for name in names if columns is None or name in columns])
