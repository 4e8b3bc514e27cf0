"""Dataset snapshots as feedback makes them, from a taste that is easy to learn: short answers are liked."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from infra.artifacts import dump_json
from infra.base_model import file_sha256
from infra.clock import now
from infra.contracts.manifests import DatasetManifest, FileEntry
from infra.ports import Ports
from infra.registry import adapters, cycles, leases
from infra.registry.cycles import CycleState
from tests.support.cycles import hold, make_cycle

WORDS = ["the", "cosine", "of", "x", "returns", "a", "list", "string", "value", "when", "called", "with", "math"]
Rows = list[dict[str, Any]]
Tables = dict[str, dict[str, Rows]]


def make_prompt(number: int) -> Rows:
    return [{"role": "user", "content": f"What does f{number} do?"}]


def make_preference(number: int, rater: str, rng: random.Random, **overrides: Any) -> dict[str, Any]:
    words = rng.choices(WORDS, k=10)
    fields = {
        "prompt": make_prompt(number),
        "chosen": [{"role": "assistant", "content": " ".join(words[:2])}],
        "rejected": [{"role": "assistant", "content": " ".join(words)}],
        "prompt_id": f"p{number}",
        "pair_id": f"pair-{number}-{rater}",
        "rater": rater,
        "source": "human",
        "weight": 1.0,
    }
    return {**fields, **overrides}


def make_tables(pairs: int = 60, demonstrations: int = 0, seed: int = 0) -> Tables:
    """Twelve raters, four of them held out; every fourth prompt is a gate prompt."""
    rng = random.Random(seed)
    prompts = [{"prompt": make_prompt(number), "prompt_id": f"p{number}"} for number in range(max(8, pairs // 3))]
    rows = [make_preference(number % len(prompts), f"rater-{number % 12:02d}", rng) for number in range(pairs)]
    taught = [
        {"prompt": make_prompt(n), "completion": [{"role": "assistant", "content": "a list"}]}
        for n in range(demonstrations)
    ]
    return {
        "preference": {
            "train": [row for row in rows if row["rater"] < "rater-08"],
            "test": [row for row in rows if row["rater"] >= "rater-08"],
        },
        "prompts": {
            "train": [row for number, row in enumerate(prompts) if number % 4],
            "gate": [row for number, row in enumerate(prompts) if not number % 4],
        },
        "demonstrations": {"train": taught},
    }


def write_dataset(directory: Path, tables: Tables, **overrides: Any) -> DatasetManifest:
    """The layout of infra.contracts.manifests, its hash over the shards' hashes."""
    files = [_write_shard(directory, f"{table}/{split}/0.parquet", rows) for table, split, rows in _filled(tables)]
    sha256 = _hash(files)
    fields = {
        "dataset_id": f"dataset-{sha256[:8]}",
        "tenant": "default",
        "alias": "assistant",
        "sha256": sha256,
        "as_of": now(),
        "files": files,
        "counts": {table: {split: len(rows) for split, rows in splits.items()} for table, splits in tables.items()},
    }
    manifest = DatasetManifest.model_validate({**fields, **overrides})
    (directory / "manifest.json").write_bytes(dump_json(manifest.model_dump(mode="json")))
    return manifest


def register_dataset(ports: Ports, tables: Tables, **overrides: Any) -> DatasetManifest:
    """Published and in the registry."""
    local = ports.home / "building"
    manifest = write_dataset(local, tables, **overrides)
    path = f"datasets/default/{manifest.dataset_id}"
    ports.artifacts.publish(path, local)
    with ports.database.transaction() as session:
        adapters.register_dataset(session, manifest, path)
    return manifest


def make_snapshotted_cycle(ports: Ports, tables: Tables | None = None, **overrides: Any) -> str:
    """A cycle that feedback has handed over: in `sft`, with its dataset."""
    manifest = register_dataset(ports, tables or make_tables())
    cycle_id = make_cycle(ports, state=CycleState.SFT, **overrides)
    lease = hold(ports, cycle_id, "feedback")
    with ports.database.transaction() as session:
        cycles.get(session, cycle_id).dataset_id = manifest.dataset_id
        leases.release(session, lease)
    return cycle_id


def _filled(tables: Tables) -> Sequence[tuple[str, str, Rows]]:
    return [(table, split, rows) for table, splits in tables.items() for split, rows in splits.items() if rows]


def _write_shard(directory: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> FileEntry:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return FileEntry(path=name, sha256=file_sha256(path), bytes=path.stat().st_size, rows=len(rows))


def _hash(files: Sequence[FileEntry]) -> str:
    return hashlib.sha256("".join(sorted(file.sha256 for file in files)).encode()).hexdigest()
