"""What an erasure has to find after the rows are blank: files of datasets, samples in evidence, exports.

Each step says in the registry what it is about to do, does it, and may be done again: a process that dies in between
is followed by one that ends the same. One process works at a time.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from feedback.datasets.scratch import clear_scratch
from feedback.datasets.snapshot import dataset_path
from feedback.holding import alone
from feedback.lending import clear_lent
from feedback.rights.evidence import Evidences
from feedback.rights.traces import Traces, erased_traces
from infra.artifacts import ArtifactStore, MissingArtifact, dump_json
from infra.clock import now
from infra.database.engine import Database
from infra.database.tables import ErasureRow
from infra.envelopes import Sealer
from infra.registry import adapters, cycles, erasures, exports, leases
from infra.registry.erasures import ErasureState
from infra.registry.errors import Conflict, NotFound
from infra.registry.leases import Lease
from infra.registry.lineage import Named
from infra.settings import FeedbackSettings

log = structlog.get_logger()
LEASE = "eraser"
AGAIN_AFTER = timedelta(hours=1)  # before one that failed is tried again
LIFETIME_DAYS = 36_500  # no dataset is older
AWAY = (SQLAlchemyError, OSError, MissingArtifact)  # may pass: the next turn goes on
WRONG = (ValidationError, NotFound, ValueError)  # does not pass by itself: the report says what it is
Report = dict[str, Any]


@dataclass(frozen=True)
class Eraser:
    """Takes the erasures that are not done, one after the other."""

    database: Database
    sealer: Sealer
    artifacts: ArtifactStore
    scratch: Path
    settings: FeedbackSettings
    lease_ttl_s: float

    def turn(self) -> int:
        """Works on each that waits, unless another process does; returns how many are done."""
        with self.database.reading() as session:
            waiting = erasures.waiting(session, now() - AGAIN_AFTER)
        done = 0
        if waiting:
            with alone(self.database, LEASE, self.lease_ttl_s) as lease:
                done = sum(self._work(lease, row) for row in waiting) if lease else 0
        return done

    def _work(self, lease: Lease, row: ErasureRow) -> bool:
        with structlog.contextvars.bound_contextvars(erasure_id=row.erasure_id):
            work = _Work(self, lease, row)
            try:
                return work.run()
            except AWAY as error:
                log.warning("erasure_postponed", reason=str(error))
            except WRONG as error:
                log.error("erasure_failed", reason=str(error))
                work.note(ErasureState.FAILED, reason=f"{type(error).__name__}: {error}")
        return False


@dataclass
class _Work:
    """One erasure on its way."""

    eraser: Eraser
    lease: Lease
    row: ErasureRow
    report: Report = field(init=False)

    def __post_init__(self) -> None:
        self.report = {name: value for name, value in self.row.report.items() if name != "reason"}

    def run(self) -> bool:
        """Whether it is done; a retraining may have to wait for the cycle that runs."""
        self.note(ErasureState.ERASING)
        if not self.report.get("swept"):
            self._sweep()
        if not self._retrained():
            return False
        self.report = {name: value for name, value in self.report.items() if name not in ("swept", "waits_for")}
        self.note(ErasureState.DONE)
        log.info("person_erased", datasets=len(self.report["datasets"]), adapters=len(self.report["adapters"]))
        return True

    def note(self, state: ErasureState, **more: Any) -> None:
        """Writes down how far it has got; what a late event of the person has added meanwhile stays."""
        with self.eraser.database.transaction() as session:
            stored = erasures.get(session, self.row.tenant, self.row.erasure_id).report.get("blanked", {})
            self.report = {**self.report, **more, "blanked": stored}
            erasures.advance(session, self.lease, self.row, state, self.report)

    def _sweep(self) -> None:
        row, eraser = self.row, self.eraser
        keys = eraser.sealer.forget(row.tenant, row.rater, row.up_to)
        self.note(ErasureState.ERASING, keys=len(keys))
        clear_scratch(eraser.scratch)
        clear_lent(eraser.artifacts)
        oldest = now() - timedelta(days=min(eraser.settings.keep_days, LIFETIME_DAYS))
        with eraser.database.reading() as session:
            traces = erased_traces(session, row, oldest.date() + timedelta(days=1))
        self._datasets(traces)
        self._adapters()
        self._exports()
        self.report.pop("files", None)  # until here a successor needs to know what was touched
        self.note(ErasureState.ERASING, swept=True)

    def _datasets(self, traces: Traces) -> None:
        """Also of directories that no row knows: a process may have died before it registered one."""
        root = dataset_path(self.row.tenant, "")
        touched: dict[str, list[str]] = {**self.report.get("files", {})}
        for dataset_id in self.eraser.artifacts.names(root.rstrip("/")):
            found = traces.files(self.eraser.artifacts, f"{root}{dataset_id}")
            if found or dataset_id in touched:
                touched[dataset_id] = sorted({*found, *touched.get(dataset_id, ())})
                self._mark(dataset_id, touched)
                self.eraser.artifacts.delete(f"{root}{dataset_id}/{name}" for name in touched[dataset_id])
        counts = {dataset_id: len(files) for dataset_id, files in sorted(touched.items())}
        self.note(ErasureState.ERASING, datasets=counts)

    def _mark(self, dataset_id: str, touched: dict[str, list[str]]) -> None:
        """Before anything is deleted: nobody begins to train on it, and a successor knows what was meant."""
        self.note(ErasureState.ERASING, files=touched)
        with self.eraser.database.transaction() as session:
            leases.fence(session, self.lease)
            manifest = adapters.mark_erased(session, self.row.tenant, dataset_id)
        if manifest is not None:
            path = dataset_path(self.row.tenant, dataset_id)
            self.eraser.artifacts.redact(path, "manifest.json", dump_json(manifest.model_dump(mode="json")))

    def _adapters(self) -> None:
        """Names what was trained on them, and takes the samples of their prompts out of its evidence."""
        row, database = self.row, self.eraser.database
        with database.transaction() as session:
            leases.fence(session, self.lease)
            datasets = adapters.datasets_named(session, row.tenant, self.report["datasets"])
            named = Named({one.dataset_id for one in datasets}, {one.sha256 for one in datasets})
            versions = [one for one in adapters.every(session, row.tenant) if named.in_manifest(one.manifest)]
            for adapter in versions:
                adapter.erasure = {row.erasure_id: now().isoformat(), **(adapter.erasure or {})}
            known = adapters.reward_models(session, row.tenant)
            rewards = [one.name for one in known if named.in_manifest(one.manifest)]
        evidences = Evidences(database, self.eraser.artifacts, row.erasure_id)
        redacted = {**self.report.get("evidence", {})}
        for adapter in versions:
            redacted[adapter.version] = redacted.get(adapter.version, 0) + evidences.redact(adapter)
            self.note(ErasureState.ERASING, evidence=redacted)
        self.report["aliases"] = sorted({adapter.alias for adapter in versions})
        touched = sorted(adapter.version for adapter in versions)
        self.note(ErasureState.ERASING, adapters=touched, reward_models=sorted(rewards))

    def _exports(self) -> None:
        """Also those that are being written: whoever writes one looks for tombstones before it is ready."""
        row, eraser = self.row, self.eraser
        with eraser.database.transaction() as session:
            leases.fence(session, self.lease)
            found = [one for one in exports.of_rater(session, row.tenant, row.rater) if one.requested_at <= row.up_to]
            eraser.artifacts.delete(one.path for one in found if one.path)
            exports.forget(session, row.tenant, [one.export_id for one in found])
        self.note(ErasureState.ERASING, exports=self.report.get("exports", 0) + len(found))

    def _retrained(self) -> bool:
        """Starts a cycle for each touched alias where the policy says so; False while another one has to end first."""
        started: dict[str, str] = {**self.report.get("cycles", {})}
        if self.eraser.settings.erasure_policy == "retrain":
            for alias in self.report.get("aliases", ()):
                if alias not in started and not self._retrain(alias, started):
                    return False
        self.report["cycles"] = started
        return True

    def _retrain(self, alias: str, started: dict[str, str]) -> bool:
        """The cycle and the report in one transaction: a successor starts no second one."""
        row = self.row
        try:
            with self.eraser.database.transaction() as session:
                cycle = cycles.trigger(
                    session, tenant=row.tenant, alias=alias, actor="eraser", settings={"init": "anchor"},
                    reason=f"somebody was erased whose words are in it (erasure {row.erasure_id})",
                )  # fmt: skip
                started[alias] = cycle.cycle_id
                self.report = {**self.report, "cycles": started}
                erasures.advance(session, self.lease, row, ErasureState.ERASING, self.report)
        except Conflict as error:
            self.note(ErasureState.ERASING, waits_for=str(error))
            return False
        return True
