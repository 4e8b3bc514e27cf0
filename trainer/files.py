"""Rows to train on from a dataset's directory, or from one Parquet or JSONL file in TRL's formats."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet

from infra.base_model import file_sha256
from infra.settings import SettingsError
from trainer.data import read_table

Rows = list[dict[str, Any]]

TABLES = {  # what each method learns from
    "sft": "demonstrations",
    "reward": "preference",
    "dpo": "preference",
    "kto": "unpaired",
    "ppo": "prompts",
    "grpo": "prompts",
    "rloo": "prompts",
}
COLUMNS = {  # that a row of a file must have; the prompt of a preference may lie within both conversations
    "demonstrations": ("prompt", "completion"),
    "preference": ("chosen", "rejected"),
    "unpaired": ("prompt", "completion", "label"),
    "prompts": ("prompt",),
}


def rows_of(source: Path, table: str, split: str) -> Rows:
    """A file is all `train`. Raises SettingsError for one that is empty or of another format."""
    if source.is_dir():
        return read_table(source, table, split)
    if not source.is_file():
        raise SettingsError(f"--dataset: {source} does not exist")
    return [_checked(source, table, *numbered) for numbered in _read(source)] if split == "train" else []


def fingerprint(source: Path) -> str:
    """SHA-256 over what a file or a directory holds."""
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    found = "".join(f"{path.relative_to(source)} {file_sha256(path)}\n" for path in files)
    return hashlib.sha256(found.encode()).hexdigest()


def _read(source: Path) -> list[tuple[int, Any]]:
    """Numbered from 1, as an editor shows a file's lines."""
    try:
        rows = _parquet(source) if source.suffix == ".parquet" else _json_lines(source)
    except ValueError as error:  # pyarrow's errors of format are ValueErrors too
        raise SettingsError(f"--dataset: {source} is neither a dataset, nor Parquet, nor JSONL ({error})") from None
    if not rows:
        raise SettingsError(f"--dataset: {source} holds no rows")
    return rows


def _parquet(source: Path) -> list[tuple[int, Any]]:
    return list(enumerate(pyarrow.parquet.ParquetFile(source).read().to_pylist(), start=1))


def _json_lines(source: Path) -> list[tuple[int, Any]]:
    with source.open(encoding="utf-8") as file:
        return [(number, _decoded(number, line)) for number, line in enumerate(file, start=1) if line.strip()]


def _decoded(number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None


def _checked(source: Path, table: str, number: int, value: Any) -> dict[str, Any]:
    """TRL's conversations of one column are demonstrations too: the last message answers the others."""
    if not isinstance(value, dict):
        raise SettingsError(f"--dataset: every line of {source} must be a JSON object, one row each, not line {number}")
    row: dict[str, Any] = value
    if table == "demonstrations" and "prompt" not in row and isinstance(row.get("messages"), list):
        row = {**row, "prompt": row["messages"][:-1], "completion": row["messages"][-1:]}
    if missing := [column for column in COLUMNS[table] if row.get(column) is None]:
        raise SettingsError(
            f"--dataset: row {number} of {source} has no {missing[0]}: needed are {', '.join(COLUMNS[table])}, "
            f"there are {', '.join(map(str, row)) or 'none'}"
        )
    return row
