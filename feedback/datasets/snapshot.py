"""Freezes a window of events into an immutable dataset in the artifact store.

What it costs grows with what changed since the last one: bodies are opened, and files written, only where a cell of
events has others than it had then. Over all that is chosen, facts alone are read, columns of numbers.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from feedback.cells import VOTES, start_of_day
from feedback.datasets import index, influence, shards
from feedback.datasets.archive import Archive, Changes
from feedback.datasets.candidates import Candidates
from feedback.datasets.composing import Composing
from feedback.datasets.crew import Crew
from feedback.datasets.draft import Draft
from feedback.datasets.gathering import Before, Gathering, Progress, read_index
from feedback.datasets.opening import Opener
from feedback.datasets.reasons import explain_no_rows
from feedback.datasets.redaction import Redactor
from feedback.datasets.rows import JUDGED
from feedback.datasets.scratch import scratch_directory
from feedback.datasets.split import TRAIN
from feedback.datasets.standing import Cut
from feedback.errors import ErasedMeanwhile, NoRows
from infra.artifacts import ArtifactStore, dump_json
from infra.contracts.manifests import DatasetManifest, FileEntry
from infra.database.engine import Database
from infra.database.tables import DatasetRow
from infra.envelopes import Sealer
from infra.registry import adapters, erasures
from infra.settings import FeedbackSettings

SHAPING = (
    "window_days", "test_share", "gate_share", "report_share", "rater_cap", "prompt_cap", "network_cap",
    "network_overlap", "rater_prior", "rater_prior_strength", "rater_weight_max", "rater_segment_min", "segment_mix",
    "segment_weight_max", "ai_shared_min", "ai_weight_max", "ai_share", "too_fast_share",
    "too_fast_words_per_second", "redact_pii", "redact_region",
)  # the settings that decide which rows there are and what they weigh  # fmt: skip

STALE_EARLIER_MIN = 10  # longer than a transaction that makes cells stale may take to be seen


def unheard(_what: str, _done: int, _total: int) -> None:
    """Progress for nobody."""


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

    def build(
        self, order: Order, fence: Callable[[Session], object] = lambda _session: None, progress: Progress = unheard
    ) -> DatasetManifest:
        """Raises NoRows or ErasedMeanwhile. Publishes, then registers; doing it again changes nothing.

        `fence` comes first in the transaction that registers: it raises where the caller's lease is gone.
        """
        parent, erased = self._parent(order), self._erased(order)
        with scratch_directory(self.scratch) as directory:
            path = dataset_path(parent.tenant, parent.dataset_id) if parent else None
            draft = Draft(directory / "dataset", self.artifacts, path)
            manifest = _Making(self, order, draft, Candidates(directory / "rows"), parent, progress).run()
            self.artifacts.publish(dataset_path(manifest.tenant, manifest.dataset_id), draft.directory, draft.shared)
        with self.database.transaction() as session:
            fence(session)
            known = session.get(DatasetRow, (manifest.tenant, manifest.dataset_id)) is not None
            if known or erasures.count(session, order.tenant) == erased:
                adapters.register_dataset(session, manifest, dataset_path(manifest.tenant, manifest.dataset_id))
                return manifest
        self.artifacts.delete([dataset_path(manifest.tenant, manifest.dataset_id)])
        raise ErasedMeanwhile("somebody was erased while the dataset was made: it has to be made again")

    def _erased(self, order: Order) -> int:
        with self.database.reading() as session:
            return erasures.count(session, order.tenant)

    def _parent(self, order: Order) -> DatasetManifest | None:
        with self.database.reading() as session:
            found = adapters.list_datasets(session, order.tenant, alias=order.alias, limit=1)
        return DatasetManifest.model_validate(found[0].manifest) if found else None


@dataclass(frozen=True)
class _Making:
    """One dataset on its way."""

    snapshots: Snapshots
    order: Order
    draft: Draft
    candidates: Candidates
    parent: DatasetManifest | None
    progress: Progress

    def run(self) -> DatasetManifest:
        settings, order = self.snapshots.settings, self.order
        start = start_of_day(order.as_of - timedelta(days=settings.window_days))
        redactor = Redactor(settings.redact_region or None) if settings.redact_pii else None
        archive = Archive(self.snapshots.database, self.snapshots.sealer, order.tenant, start, order.cut, redactor)
        opener = Opener(archive, self.draft, self.candidates, settings, order.alias, order.as_of)
        before = self._before()
        known = before.index.groups if before else {}
        with Crew(opener, settings.snapshot_processes) as crew:
            found, opened = Gathering(opener, crew, self.progress).run(before)
            composing = Composing(crew, self.draft, found, opened, settings, self.progress)
            chosen = composing.judged(known)
            composing.prompts(known)
        filtered = found.filtered + composing.filtered
        files = [file for group in found.groups.values() for file in group.files]
        counts = _counts(files)
        if not any(counts.get(table, {}).get(TRAIN) for table in JUDGED):
            votes = sum(filtered.values()) + sum(entry.rows for entry in found.entries(VOTES).values())
            raise NoRows(explain_no_rows(order.alias, votes, settings.window_days, filtered))
        side_files, report = influence.write_weights(self.draft, found, chosen, settings)
        manifest = self._manifest(start, [*files, *side_files], counts, filtered, report)
        told = {"redacted": dict(sorted(found.redacted.items())), "voting": found.voting}
        manifest = manifest.model_copy(update=told)
        self._write("manifest.json", manifest.model_dump(mode="json"))
        self._write(index.CELLS, found.model_dump(mode="json"))
        return manifest

    def _before(self) -> Before | None:
        """None where there is no parent to build on: it is of another log, or its facts were made otherwise."""
        parent, known = self.parent, read_index(self.draft, self.snapshots.settings)
        if parent is None or known is None or parent.window_start is None:
            return None
        since = {(topic, at): end for topic, ends in parent.event_cut.items() for at, end in ends.items()}
        if any(end > self.order.cut.get(place, 0) for place, end in since.items()):
            return None
        stale_since = parent.as_of - timedelta(minutes=STALE_EARLIER_MIN)
        changes = Changes(self.snapshots.database, self.order.tenant, since, self.order.cut, stale_since)
        return Before(known, changes, parent.window_start)

    def _manifest(
        self, start: datetime, files: list[FileEntry], counts: dict[str, dict[str, int]], filtered: Counter[str],
        report: Mapping[str, Any],
    ) -> DatasetManifest:  # fmt: skip
        order, settings = self.order, self.snapshots.settings
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
            files=sorted(files, key=lambda file: file.path),
            counts=counts,
            filtered=dict(sorted(filtered.items())),
            weights=dict(report),
            settings={name: getattr(settings, name) for name in SHAPING},
            parent=self.parent.dataset_id if self.parent else None,
        )

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        self.draft.at(name).write_bytes(dump_json(content))


def _counts(files: list[FileEntry]) -> dict[str, dict[str, int]]:
    """Table -> split -> rows, from the paths `<table>/<split>/<cell>.parquet`."""
    found: dict[str, Counter[str]] = {}
    for file in files:
        table, split, _ = file.path.split("/")
        found.setdefault(table, Counter())[split] += file.rows or 0
    return {table: dict(sorted(found[table].items())) for table in sorted(found)}


def dataset_path(tenant: str, dataset_id: str) -> str:
    return f"datasets/{tenant}/{dataset_id}"
