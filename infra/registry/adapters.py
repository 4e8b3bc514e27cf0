"""Adapters: what was published, what became of it, and the datasets and reward models behind it."""

from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from infra.clock import now
from infra.contracts.manifests import AdapterManifest, DatasetManifest, GateReport, RewardManifest
from infra.database.tables import AdapterRow, DatasetRow, RewardModelRow
from infra.registry.errors import IllegalTransition, NotFound


class AdapterState(StrEnum):
    PUBLISHED = "published"
    REFUSED = "refused"  # not valid: never loaded
    BLOCKED = "blocked"
    AWAITING_PERSON = "awaiting_person"
    ACCEPTED = "accepted"  # passed its gates, or a person said yes
    CHAMPION = "champion"
    RETIRED = "retired"
    ROLLED_BACK = "rolled_back"


A = AdapterState
TRANSITIONS: dict[AdapterState, frozenset[AdapterState]] = {
    A.PUBLISHED: frozenset({A.REFUSED, A.BLOCKED, A.AWAITING_PERSON, A.ACCEPTED}),
    A.REFUSED: frozenset(),
    A.BLOCKED: frozenset({A.ACCEPTED, A.REFUSED}),
    A.AWAITING_PERSON: frozenset({A.ACCEPTED, A.BLOCKED, A.REFUSED}),
    A.ACCEPTED: frozenset({A.CHAMPION, A.REFUSED, A.ROLLED_BACK}),
    A.CHAMPION: frozenset({A.RETIRED, A.ROLLED_BACK}),
    A.RETIRED: frozenset({A.CHAMPION, A.REFUSED}),
    A.ROLLED_BACK: frozenset({A.CHAMPION, A.REFUSED}),
}


def register(session: Session, manifest: AdapterManifest, path: str) -> AdapterRow:
    """Idempotent on the version name."""
    if row := session.get(AdapterRow, manifest.version):
        return row
    row = AdapterRow(version=manifest.version, tenant=manifest.tenant, alias=manifest.alias, state=A.PUBLISHED)
    row.cycle_id, row.path, row.manifest = manifest.cycle_id, path, manifest.model_dump(mode="json")
    row.created_at = row.updated_at = now()
    session.add(row)
    session.flush()
    return row


def get(session: Session, version: str, tenant: str | None = None) -> AdapterRow:
    """Raises NotFound."""
    row = session.get(AdapterRow, version)
    if row is None or (tenant is not None and row.tenant != tenant):
        raise NotFound(f"there is no version {version}")
    return row


def made_for(session: Session, versions: Collection[str]) -> dict[str, tuple[str, str]]:
    """The alias and the base revision of those that are known."""
    base = AdapterRow.manifest["base_revision"].as_string()
    query = select(AdapterRow.version, AdapterRow.alias, base).where(AdapterRow.version.in_(versions))
    return {version: (alias, base_revision) for version, alias, base_revision in session.execute(query)}


def list_adapters(session: Session, tenant: str, *, alias: str | None = None, limit: int = 100) -> Sequence[AdapterRow]:
    """Newest first."""
    query = select(AdapterRow).where(AdapterRow.tenant == tenant).order_by(AdapterRow.created_at.desc()).limit(limit)
    return session.scalars(query if alias is None else query.where(AdapterRow.alias == alias)).all()


def manifest_of(row: AdapterRow) -> AdapterManifest:
    return AdapterManifest.model_validate(row.manifest)


def move(session: Session, version: str, target: AdapterState, *, reason: str | None = None) -> AdapterRow:
    """Raises IllegalTransition; moving to where it is already does nothing."""
    row = get(session, version)
    source = AdapterState(row.state)
    if target is source:
        return row
    if target not in TRANSITIONS[source]:
        raise IllegalTransition(f"version {version} cannot go from {source} to {target}")
    row.state, row.updated_at, row.reason = target, now(), reason
    return row


def store_gates(session: Session, report: GateReport) -> None:
    get(session, report.version).gates = report.model_dump(mode="json")


def register_dataset(session: Session, manifest: DatasetManifest, path: str) -> DatasetRow:
    """Idempotent on (tenant, dataset_id)."""
    if row := session.get(DatasetRow, (manifest.tenant, manifest.dataset_id)):
        return row
    row = DatasetRow(tenant=manifest.tenant, dataset_id=manifest.dataset_id, alias=manifest.alias)
    row.sha256, row.path, row.manifest = manifest.sha256, path, manifest.model_dump(mode="json")
    row.created_at = now()
    session.add(row)
    session.flush()
    return row


def get_dataset(session: Session, tenant: str, dataset_id: str) -> DatasetRow:
    """Raises NotFound."""
    row = session.get(DatasetRow, (tenant, dataset_id))
    if row is None:
        raise NotFound(f"there is no dataset {dataset_id}")
    return row


def list_datasets(session: Session, tenant: str, *, alias: str | None = None, limit: int = 100) -> Sequence[DatasetRow]:
    """Newest first."""
    query = select(DatasetRow).where(DatasetRow.tenant == tenant).order_by(DatasetRow.created_at.desc()).limit(limit)
    return session.scalars(query if alias is None else query.where(DatasetRow.alias == alias)).all()


def mark_erased(session: Session, tenant: str, dataset_id: str) -> DatasetManifest | None:
    """Some of its files are going, so nothing is trained on it any more. None where it was never registered."""
    row = session.get(DatasetRow, (tenant, dataset_id))
    if row is None:
        return None
    row.erased_at = row.erased_at or now()
    row.manifest = {**row.manifest, "erased": True}
    return DatasetManifest.model_validate(row.manifest)


def is_erased(session: Session, tenant: str, dataset_id: str | None) -> bool:
    row = session.get(DatasetRow, (tenant, dataset_id)) if dataset_id else None
    return row is not None and row.erased_at is not None


def datasets_named(session: Session, tenant: str, dataset_ids: Iterable[str]) -> list[DatasetManifest]:
    """Those of these that are registered."""
    found = (session.get(DatasetRow, (tenant, dataset_id)) for dataset_id in dataset_ids)
    return [DatasetManifest.model_validate(row.manifest) for row in found if row is not None]


def every_dataset(session: Session, tenant: str) -> Sequence[DatasetRow]:
    """Oldest first."""
    query = select(DatasetRow).where(DatasetRow.tenant == tenant).order_by(DatasetRow.created_at)
    return session.scalars(query).all()


def every(session: Session, tenant: str) -> Sequence[AdapterRow]:
    """All versions there ever were, oldest first."""
    return session.scalars(select(AdapterRow).where(AdapterRow.tenant == tenant).order_by(AdapterRow.created_at)).all()


def reward_models(session: Session, tenant: str) -> Sequence[RewardModelRow]:
    return session.scalars(select(RewardModelRow).where(RewardModelRow.tenant == tenant)).all()


def register_reward_model(
    session: Session, tenant: str, manifest: RewardManifest, path: str, cycle_id: str | None
) -> RewardModelRow:
    """Idempotent on (tenant, name)."""
    if row := session.get(RewardModelRow, (tenant, manifest.name)):
        return row
    row = RewardModelRow(tenant=tenant, name=manifest.name, cycle_id=cycle_id, path=path)
    row.manifest, row.created_at = manifest.model_dump(mode="json"), now()
    session.add(row)
    return row


def get_reward_model(session: Session, name: str, tenant: str | None = None) -> RewardModelRow:
    """Raises NotFound; `tenant` None is for the product's own processes."""
    row = session.scalars(select(RewardModelRow).where(RewardModelRow.name == name)).first()
    if row is None or (tenant is not None and row.tenant != tenant):
        raise NotFound(f"there is no reward model {name}")
    return row
