"""What was made of what: versions and reward models of datasets. Manifests of datasets stay where they are: they are
long."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from infra.database.tables import AdapterRow, CycleRow, DatasetRow, RewardModelRow

MANIFEST = DatasetRow.manifest
COLUMNS = (
    DatasetRow.dataset_id, DatasetRow.alias, DatasetRow.sha256, DatasetRow.path, DatasetRow.created_at,
    DatasetRow.erased_at, MANIFEST["counts"].label("rows"),
)  # fmt: skip


@dataclass(frozen=True)
class Shelf:
    """A dataset as the registry knows it, but for its manifest. `rows[table][split]`."""

    dataset_id: str
    alias: str
    sha256: str
    path: str
    created_at: datetime
    erased_at: datetime | None
    rows: dict[str, dict[str, int]]


@dataclass(frozen=True)
class Named:
    """Some datasets by their ids and, for manifests that have no ids, by their hashes."""

    ids: Collection[str]
    sha256: Collection[str]

    def in_manifest(self, manifest: dict[str, Any]) -> bool:
        """Of an adapter or a reward model, that was made of any of them."""
        ids, hashes = manifest.get("dataset_ids", ()), manifest.get("dataset_sha256", ())
        return any(one in self.ids for one in ids) or any(one in self.sha256 for one in hashes)


def datasets_that_may_hold(session: Session, tenant: str, since: datetime, latest: datetime) -> list[Shelf]:
    """Those made after `since` whose window begins before `latest`, a midnight in UTC; oldest first."""
    start = MANIFEST["window_start"].as_string()
    reaches_back = or_(start.is_(None), start <= latest.isoformat())
    return _shelves(session, tenant, DatasetRow.created_at >= since, reaches_back)


def datasets_behind(session: Session, tenant: str, manifest: dict[str, Any]) -> list[Shelf]:
    """Of the closure that a version's manifest states, those that are registered; oldest first."""
    ids, hashes = manifest.get("dataset_ids", ()), manifest.get("dataset_sha256", ())
    found = _shelves(session, tenant, or_(DatasetRow.dataset_id.in_(ids), DatasetRow.sha256.in_(hashes)))
    named = {one.sha256 for one in found if one.dataset_id in ids}
    return [one for one in found if one.dataset_id in ids or one.sha256 not in named]


def cycles_of(session: Session, tenant: str, dataset_ids: Collection[str]) -> Sequence[CycleRow]:
    """Oldest first."""
    query = select(CycleRow).where(CycleRow.tenant == tenant, CycleRow.dataset_id.in_(dataset_ids))
    return session.scalars(query.order_by(CycleRow.created_at)).all()


def versions_since(session: Session, tenant: str, since: datetime) -> Sequence[AdapterRow]:
    """Oldest first."""
    query = select(AdapterRow).where(AdapterRow.tenant == tenant, AdapterRow.created_at >= since)
    return session.scalars(query.order_by(AdapterRow.created_at)).all()


def reward_models_since(session: Session, tenant: str, since: datetime) -> Sequence[RewardModelRow]:
    query = select(RewardModelRow).where(RewardModelRow.tenant == tenant, RewardModelRow.created_at >= since)
    return session.scalars(query.order_by(RewardModelRow.created_at)).all()


def _shelves(session: Session, tenant: str, *which: ColumnElement[bool]) -> list[Shelf]:
    query = select(*COLUMNS).where(DatasetRow.tenant == tenant, *which).order_by(DatasetRow.created_at)
    return [Shelf(*row) for row in session.execute(query)]
