"""Manifests with every field that a test does not care about filled in."""

from infra.clock import now
from infra.contracts.manifests import AdapterManifest, DatasetManifest


def make_adapter_manifest(**overrides: object) -> AdapterManifest:
    fields: dict[str, object] = {
        "version": "assistant-1-00000000",
        "alias": "assistant",
        "tenant": "default",
        "cycle_id": "1",
        "base_revision": "0123456789ab",
        "rank": 16,
        "sha256": "0" * 64,
        "dataset_sha256": ["1" * 64],
        "method": "grpo",
        "seeds": {"cycle": 0},
        "created_at": now(),
    }
    return AdapterManifest.model_validate(fields | overrides)


def make_dataset_manifest(**overrides: object) -> DatasetManifest:
    fields: dict[str, object] = {
        "dataset_id": "dataset-1",
        "tenant": "default",
        "alias": "assistant",
        "sha256": "0" * 64,
        "as_of": now(),
        "files": [],
        "counts": {},
    }
    return DatasetManifest.model_validate(fields | overrides)
