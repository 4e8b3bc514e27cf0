"""Samples and smoke cases in the evidence of an adapter quote prompts: those that are erased are taken out."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from feedback.cells import PROMPTS
from feedback.datasets.snapshot import dataset_path
from infra.artifacts import ArtifactStore, MissingArtifact, dump_json
from infra.database.engine import Database
from infra.database.tables import AdapterRow
from infra.registry import audit

EVIDENCE = "evidence.json"
QUOTING = ("samples", "smoke")  # lists of what was asked and answered, each with its prompt's id


@dataclass(frozen=True, slots=True)
class Evidences:
    """Redacts for one erasure. What stays is what was asked from prompts that its datasets still have."""

    database: Database
    artifacts: ArtifactStore
    erasure_id: str

    def redact(self, adapter: AdapterRow) -> int:
        """Returns how many samples and cases were taken out; may be done again."""
        try:
            stored = self.artifacts.read(f"{adapter.path}/{EVIDENCE}")
        except MissingArtifact:
            return 0
        evidence, known = dict(json.loads(stored)), set(self._prompt_ids(adapter))
        kept = {name: [one for one in evidence.get(name, ()) if one.get("prompt_id") in known] for name in QUOTING}
        fewer = sum(len(evidence.get(name, ())) - len(kept[name]) for name in QUOTING)
        if fewer:
            self._audit(adapter, fewer)
            stored = dump_json({**evidence, **kept})
        self.artifacts.redact(adapter.path, EVIDENCE, stored)
        return fewer

    def _prompt_ids(self, adapter: AdapterRow) -> Iterator[str]:
        for dataset_id in adapter.manifest.get("dataset_ids", ()):
            directory = dataset_path(adapter.tenant, dataset_id)
            for name in self.artifacts.files(f"{directory}/{PROMPTS}"):
                with self.artifacts.open(f"{directory}/{PROMPTS}/{name}") as file:
                    found: list[Any] = pq.read_table(file, columns=["prompt_id"])["prompt_id"].to_pylist()
                yield from found

    def _audit(self, adapter: AdapterRow, count: int) -> None:
        with self.database.transaction() as session:
            audit.record(
                session, tenant=adapter.tenant, actor="eraser", action="evidence.redact", subject=adapter.version,
                reason=f"erasure {self.erasure_id}", after={"taken_out": count},
            )  # fmt: skip
