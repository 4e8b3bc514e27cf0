"""From an event on to whatever it reached: rows of datasets, the cycles that took those, the versions they made."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import select
from sqlalchemy.orm import Session

from feedback.datasets.rows import Table
from feedback.rights.traces import CLOCKS_APART, read_columns
from feedback.tables import InferenceRow, VoteEventRow, VoteTargetRow
from feedback.tracing import events, places
from feedback.tracing.lineage import tell_cycle
from feedback.tracing.places import Places
from infra.artifacts import ArtifactStore, MissingArtifact
from infra.contracts.traces import (
    EventState,
    EventTrace,
    TracedAdapter,
    TracedErasure,
    TracedEvent,
    TracedRow,
    TracedSnapshot,
)
from infra.database.engine import Database
from infra.database.tables import AdapterRow, ErasureRow
from infra.registry import lineage
from infra.registry.errors import NotFound
from infra.registry.lineage import Named, Shelf

ROWS_MOST = 100  # told of one dataset
Stored = InferenceRow | VoteEventRow


@dataclass(frozen=True)
class Reach:
    """One tenant's. A shard that several datasets share is read once."""

    database: Database
    artifacts: ArtifactStore
    tenant: str
    read: dict[str, list[TracedRow]] = field(default_factory=dict)

    def of(self, name: str) -> EventTrace:
        """`name` is an event's id, or an answer's response id; raises NotFound."""
        event_id = events.hex_of(name)
        with self.database.reading() as session:
            if erasure := session.get(ErasureRow, (self.tenant, event_id)):
                return _of_erasure(erasure)
            row = self._find(session, event_id, name)
            told = self._tell(session, row)
            where = places.of_answer(session, row) if isinstance(row, InferenceRow) else places.of_vote(session, row)
            shelves = lineage.datasets_that_may_hold(session, self.tenant, row.received_at - CLOCKS_APART, where.end)
            erasure = session.get(ErasureRow, (self.tenant, row.erasure_id)) if row.erasure_id else None
            targets = self._targets(session, row)
        found = self._snapshots(shelves, where, row.event_id)
        return self._told(row, told, targets, found, erasure)

    def _told(
        self, row: Stored, event: TracedEvent, targets: list[str], found: Sequence[tuple[Shelf, TracedSnapshot]],
        erasure: ErasureRow | None,
    ) -> EventTrace:  # fmt: skip
        shelves = [shelf for shelf, _ in found]
        named = Named({one.dataset_id for one in shelves}, {one.sha256 for one in shelves})
        with self.database.reading() as session:
            cycles = lineage.cycles_of(session, self.tenant, named.ids)
            first = min((one.created_at for one in shelves), default=row.received_at) - CLOCKS_APART
            versions = lineage.versions_since(session, self.tenant, first) if shelves else []
            rewards = lineage.reward_models_since(session, self.tenant, first) if shelves else []
        return EventTrace(
            event=event,
            response_ids=targets,
            consent_train=row.consent_train,
            received_at=row.received_at,
            datasets=[snapshot for _, snapshot in found],
            cycles=[tell_cycle(one) for one in cycles],
            versions=[_adapter(one, named) for one in versions if named.in_manifest(one.manifest)],
            reward_models=[one.name for one in rewards if named.in_manifest(one.manifest)],
            erasure=_erasure(erasure) if erasure else None,
        )

    def _find(self, session: Session, event_id: str, name: str) -> Stored:
        mine = (InferenceRow.tenant == self.tenant, InferenceRow.event_id == event_id)
        found = (
            session.get(VoteEventRow, (self.tenant, event_id))
            or session.scalar(select(InferenceRow).where(*mine))
            or session.get(InferenceRow, (self.tenant, name))
        )
        if found is None:
            raise NotFound(f"no event {name} is stored: it never came, or is older than feedback.keep_days")
        return found

    def _tell(self, session: Session, row: Stored) -> TracedEvent:
        return events.told(session, self.tenant, [row.event_id])[0]

    def _targets(self, session: Session, row: Stored) -> list[str]:
        if isinstance(row, InferenceRow):
            return [row.response_id]
        target = VoteTargetRow
        mine = (target.tenant == self.tenant, target.vote_id == row.vote_id)
        return list(session.scalars(select(target.target).where(*mine).order_by(target.target)))

    def _snapshots(self, shelves: Sequence[Shelf], where: Places, event_id: str) -> list[tuple[Shelf, TracedSnapshot]]:
        names, found = where.names, list[tuple[Shelf, TracedSnapshot]]()
        for shelf in shelves:
            rows = [row for name in names for row in self._rows(shelf.path, name, event_id)]
            if rows:
                found.append((shelf, _snapshot(shelf, rows)))
        return found

    def _rows(self, directory: str, name: str, event_id: str) -> list[TracedRow]:
        path = f"{directory}/{name}"
        identity = self.artifacts.identity(path)
        if identity is None:
            return []
        if identity not in self.read:
            try:
                self.read[identity] = rows_of(self.artifacts, path, name, event_id)
            except MissingArtifact:  # an erasure has just taken it
                return []
        return self.read[identity]


def rows_of(artifacts: ArtifactStore, path: str, name: str, event_id: str) -> list[TracedRow]:
    """Those of one shard that are made of the event."""
    table, split, _ = name.split("/")
    column = "prompt_id" if table == Table.PROMPTS else "pair_id"
    stored = read_columns(artifacts, path, (column, "source_event_ids"))
    sources = stored["source_event_ids"].combine_chunks()
    mine = pc.equal(sources.flatten(), pa.scalar(event_id))
    places_of = pc.unique(pc.list_parent_indices(sources).filter(mine))
    return [TracedRow(table=table, split=split, row_id=row_id) for row_id in stored[column].take(places_of).to_pylist()]


def _snapshot(shelf: Shelf, rows: Sequence[TracedRow]) -> TracedSnapshot:
    return TracedSnapshot(
        dataset_id=shelf.dataset_id, alias=shelf.alias, created_at=shelf.created_at, erased_at=shelf.erased_at,
        rows_total=len(rows), rows=list(rows[:ROWS_MOST]),
    )  # fmt: skip


def _adapter(row: AdapterRow, named: Named) -> TracedAdapter:
    return TracedAdapter(
        version=row.version, alias=row.alias, state=row.state, cycle_id=row.cycle_id, created_at=row.created_at,
        dataset_ids=[one for one in row.manifest.get("dataset_ids", ()) if one in named.ids],
    )  # fmt: skip


def _erasure(row: ErasureRow) -> TracedErasure:
    told = row.report
    return TracedErasure(
        erasure_id=row.erasure_id, state=row.state, datasets=sorted(told.get("datasets", ())),
        versions=told.get("adapters", []), reward_models=told.get("reward_models", []),
    )  # fmt: skip


def _of_erasure(row: ErasureRow) -> EventTrace:
    """An erasure is an event too: it reached what it took somebody's words out of."""
    event = TracedEvent(
        event_id=row.erasure_id, kind=events.ERASURE, state=EventState.STORED, occurred_at=row.requested_at
    )
    return EventTrace(
        event=event, response_ids=[], consent_train=False, received_at=None, datasets=[], cycles=[], versions=[],
        reward_models=[], erasure=_erasure(row),
    )  # fmt: skip
