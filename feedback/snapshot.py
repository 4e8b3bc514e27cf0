"""Freezes a window of events into an immutable dataset in the artifact store."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from feedback import archive, shards
from feedback.archive import Cut, Window
from feedback.compose import Content, compose
from feedback.errors import NoRows
from feedback.reasons import explain_no_rows
from infra.artifacts import ArtifactStore, dump_json
from infra.contracts.manifests import DatasetManifest, FileEntry
from infra.database.engine import Database
from infra.envelopes import Sealer
from infra.registry import adapters
from infra.settings import FeedbackSettings

SHAPING = (
    "window_days", "test_share", "gate_share", "report_share", "rater_cap", "prompt_cap", "too_fast_share",
    "too_fast_words_per_second",
)  # the settings that decide which rows there are  # fmt: skip


@dataclass(frozen=True, slots=True)
class Order:
    """Which dataset is wanted: one tenant's and alias', of the events before `cut`, as of a moment."""

    tenant: str
    alias: str
    as_of: datetime
    cut: Cut


@dataclass(frozen=True)
class Snapshots:
    """Builds and publishes datasets. `scratch` holds the files of one that is being built, and nothing afterwards."""

    database: Database
    sealer: Sealer
    artifacts: ArtifactStore
    scratch: Path
    settings: FeedbackSettings

    def build(self, order: Order, fence: Callable[[Session], object] = lambda _session: None) -> DatasetManifest:
        """Raises NoRows. Publishes, then registers; doing it again changes nothing.

        `fence` comes first in the transaction that registers: it raises where the caller's lease is gone.
        """
        start = order.as_of - timedelta(days=self.settings.window_days)
        with self.database.reading() as session:
            material = archive.read(session, self.sealer, Window(order.tenant, order.alias, start, order.cut))
            parent = adapters.list_datasets(session, order.tenant, alias=order.alias, limit=1)
        content = compose(material, self.settings, order.alias, order.as_of)
        if not content.trainable:
            votes = len(material.votes)
            raise NoRows(explain_no_rows(order.alias, votes, self.settings.window_days, content.filtered))
        manifest = self._publish(order, start, content, parent[0].dataset_id if parent else None)
        with self.database.transaction() as session:
            fence(session)
            adapters.register_dataset(session, manifest, dataset_path(manifest.tenant, manifest.dataset_id))
        return manifest

    def _publish(self, order: Order, start: datetime, content: Content, parent: str | None) -> DatasetManifest:
        self.scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.scratch) as name:
            directory = Path(name)
            files = shards.write_shards(content.divided, directory)
            manifest = make_manifest(order, start, content, files, self._shaping(), parent)
            (directory / "manifest.json").write_bytes(dump_json(manifest.model_dump(mode="json")))
            self.artifacts.publish(dataset_path(manifest.tenant, manifest.dataset_id), directory)
        return manifest

    def _shaping(self) -> dict[str, Any]:
        return {**{name: getattr(self.settings, name) for name in SHAPING}, "buckets": shards.BUCKETS}


def make_manifest(
    order: Order, start: datetime, content: Content, files: list[FileEntry], settings: Mapping[str, Any],
    parent: str | None,
) -> DatasetManifest:  # fmt: skip
    sha256 = shards.dataset_sha256(files)
    cut: dict[str, dict[int, int]] = {}
    for (topic, partition), offset in sorted(order.cut.items()):
        cut.setdefault(topic, {})[partition] = offset
    return DatasetManifest(
        dataset_id=f"{order.alias}-{order.as_of:%Y%m%dT%H%M%S}-{sha256[:8]}",
        tenant=order.tenant,
        alias=order.alias,
        sha256=sha256,
        as_of=order.as_of,
        window_start=start,
        event_cut=cut,
        files=files,
        counts=content.counts,
        filtered=dict(sorted(content.filtered.items())),
        settings=dict(settings),
        parent=parent,
    )


def dataset_path(tenant: str, dataset_id: str) -> str:
    return f"datasets/{tenant}/{dataset_id}"
