"""What is kept beside an adapter quotes prompts, in samples, smoke cases and questions: erased ones are taken out."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from feedback.cells import PROMPTS
from feedback.datasets.snapshot import dataset_path
from infra.artifacts import ArtifactStore, MissingArtifact, dump_json
from infra.contracts.queries import queries_path
from infra.database.engine import Database
from infra.database.tables import AdapterRow
from infra.registry import audit

EVIDENCE = "evidence.json"
QUOTING = ("samples", "smoke")  # lists of what was asked and answered, each with its prompt's id
QUERIES = "queries"


@dataclass(frozen=True, slots=True)
class Evidences:
    """Redacts for one erasure. What stays is what was asked from prompts that its datasets still have."""

    database: Database
    artifacts: ArtifactStore
    erasure_id: str

    def redact(self, adapter: AdapterRow) -> int:
        """Returns how many samples, cases and questions were taken out; may be done again."""
        return self._redact_evidence(adapter) + self._redact_queries(adapter)

    def _redact_queries(self, adapter: AdapterRow) -> int:
        path = queries_path(adapter.version)
        try:
            asked = self.artifacts.read_json(path)
        except MissingArtifact:
            return 0
        known = set(self._prompt_ids(adapter))
        kept = [one for one in asked[QUERIES] if one["prompt_id"] in known]
        if fewer := len(asked[QUERIES]) - len(kept):
            self._audit(adapter, fewer)
            self.artifacts.write(path, dump_json({**asked, QUERIES: kept}))
        return fewer

    def _redact_evidence(self, adapter: AdapterRow) -> int:
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
