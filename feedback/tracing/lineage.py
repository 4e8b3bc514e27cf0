"""From a version back to what made it: its cycle and gates, what it started from, its datasets and their events."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.orm import Session

from feedback.tracing import events
from feedback.tracing.sources import Sources
from infra.artifacts import ArtifactStore
from infra.contracts.traces import (
    Question,
    TracedCycle,
    TracedDataset,
    TracedGate,
    TracedParent,
    TracedReward,
    TracedSources,
    TracedVersion,
)
from infra.database.engine import Database
from infra.database.tables import AdapterRow, CycleRow
from infra.registry import adapters, cycles, lineage
from infra.registry.errors import NotFound
from infra.registry.lineage import Shelf


@dataclass(frozen=True)
class Lineage:
    """One tenant's."""

    database: Database
    artifacts: ArtifactStore
    tenant: str

    def of(self, version: str, question: Question) -> TracedVersion | None:
        """None of what no adapter made, or is not known."""
        with self.database.reading() as session:
            row = self._adapter(session, version)
            if row is None:
                return None
            shelves = lineage.datasets_behind(session, self.tenant, row.manifest)
            parents = list(self._parents(session, row))
            cycle, reward = self._cycle(session, row), self._reward_model(session, row)
        manifest, gates = row.manifest, row.gates or {}
        return TracedVersion(
            version=version,
            alias=row.alias,
            state=row.state,
            base_revision=manifest["base_revision"],
            method=manifest["method"],
            init=manifest["init"],
            anchor=manifest["anchor"],
            created_at=row.created_at,
            parents=parents,
            cycle=cycle,
            reward_model=reward,
            verdict=gates.get("verdict"),
            gates=[TracedGate.model_validate(gate) for gate in gates.get("gates", ())],
            datasets=[*_datasets(row, shelves)],
            events=self._events(shelves, question),
            erasures=sorted(row.erasure or ()),
        )

    def _events(self, shelves: list[Shelf], question: Question) -> TracedSources:
        """The page that was asked for, if one was."""
        sources = Sources(self.database, self.artifacts, self.tenant).of(shelves)
        page = list[str]()
        if question.events:
            page = sources.page(question.offset, question.limit)
        with self.database.reading() as session:
            found = events.told(session, self.tenant, page)
        return TracedSources(count=sources.count, complete=sources.complete, offset=question.offset, page=found)

    def _adapter(self, session: Session, version: str) -> AdapterRow | None:
        try:
            return adapters.get(session, version, self.tenant)
        except NotFound:
            return None

    def _parents(self, session: Session, row: AdapterRow) -> Iterator[TracedParent]:
        """Until one that started from its anchor."""
        parent = row.manifest.get("parent")
        while parent:
            found = self._adapter(session, parent)
            yield TracedParent(
                version=parent,
                state=found.state if found else None,
                method=found.manifest["method"] if found else None,
                cycle_id=found.cycle_id if found else None,
            )
            parent = found.manifest.get("parent") if found else None

    def _cycle(self, session: Session, row: AdapterRow) -> TracedCycle | None:
        if row.cycle_id is None:
            return None
        try:
            return tell_cycle(cycles.get(session, row.cycle_id, self.tenant))
        except NotFound:
            return None

    def _reward_model(self, session: Session, row: AdapterRow) -> TracedReward | None:
        name = row.manifest.get("reward_model")
        if name is None:
            return None
        try:
            found = adapters.get_reward_model(session, name, self.tenant)
        except NotFound:
            return TracedReward(name=name, cycle_id=None, dataset_sha256=[])
        return TracedReward(name=name, cycle_id=found.cycle_id, dataset_sha256=found.manifest["dataset_sha256"])


def tell_cycle(row: CycleRow) -> TracedCycle:
    return TracedCycle.model_validate({name: getattr(row, name) for name in TracedCycle.model_fields})


def _datasets(row: AdapterRow, shelves: list[Shelf]) -> Iterator[TracedDataset]:
    """The closure; what is not registered here, by its hash."""
    for one in shelves:
        yield TracedDataset(
            dataset_id=one.dataset_id, sha256=one.sha256, rows=one.rows, created_at=one.created_at,
            erased_at=one.erased_at,
        )  # fmt: skip
    known = {one.sha256 for one in shelves}
    for sha256 in row.manifest["dataset_sha256"]:
        if sha256 not in known:
            yield TracedDataset(dataset_id=None, sha256=sha256)
