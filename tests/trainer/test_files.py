"""A file in one of TRL's formats is read; one that isn't is refused in words that name the line and what it lacks."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from infra.settings import SettingsError
from trainer.data import demonstrations, preferences
from trainer.files import COLUMNS, TABLES, rows_of
from trainer.methods.policy import METHODS

PAIR = {"prompt": "What does cos do?", "chosen": "The cosine.", "rejected": "A list."}
CHAT = [{"role": "user", "content": "What does cos do?"}, {"role": "assistant", "content": "The cosine."}]


def write_lines(path: Path, *lines: Any) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


def refused(source: Path, table: str = "preference") -> str:
    with pytest.raises(SettingsError) as caught:
        rows_of(source, table, "train")
    return str(caught.value)


def test_every_method_has_a_table_and_every_table_its_columns() -> None:
    assert TABLES.keys() == {"sft", "reward", *METHODS}
    assert set(TABLES.values()) == COLUMNS.keys()


def test_both_formats_hold_the_same_rows(tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "pairs.jsonl", PAIR, PAIR)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([PAIR, PAIR]), tmp_path / "pairs.parquet")
    assert rows_of(lines, "preference", "train") == [PAIR, PAIR]
    assert rows_of(tmp_path / "pairs.parquet", "preference", "train") == [PAIR, PAIR]


def test_a_file_is_all_for_training(tmp_path: Path) -> None:
    assert rows_of(write_lines(tmp_path / "pairs.jsonl", PAIR), "preference", "test") == []


def test_empty_lines_are_no_rows(tmp_path: Path) -> None:
    assert rows_of(write_lines(tmp_path / "pairs.jsonl", PAIR, "", "  ", PAIR), "preference", "train") == [PAIR, PAIR]


def test_a_prompt_may_lie_within_both_conversations(tmp_path: Path) -> None:
    rejected = [CHAT[0], {"role": "assistant", "content": "A list."}]
    [row] = rows_of(write_lines(tmp_path / "p.jsonl", {"chosen": CHAT, "rejected": rejected}), "preference", "train")
    assert preferences([row])[0].prompt.messages == CHAT[:1]


def test_a_conversation_in_one_column_is_a_demonstration_of_its_last_message(tmp_path: Path) -> None:
    [row] = rows_of(write_lines(tmp_path / "chats.jsonl", {"messages": CHAT}), "demonstrations", "train")
    [found] = demonstrations([row])
    assert found.prompt.messages == CHAT[:1]
    assert found.completion == CHAT[1]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pyarrow.parquet.write_table(pyarrow.table({"chosen": pyarrow.array([], pyarrow.string())}), tmp_path / name)
    else:
        (tmp_path / name).write_text("\n\n")
    assert refused(tmp_path / name) == f"--dataset: {tmp_path / name} holds no rows"


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_a_file_of_another_format_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("prompt,completion\n")
    assert "is neither a dataset, nor Parquet, nor JSONL" in refused(tmp_path / name)


def test_bytes_that_are_no_text_are_no_lines(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"\xff\xfe\x00")
    assert "is neither a dataset, nor Parquet, nor JSONL" in refused(tmp_path / "rows.jsonl")


def test_a_line_that_is_broken_is_found_by_its_number(tmp_path: Path) -> None:
    assert "(line 3: " in refused(write_lines(tmp_path / "rows.jsonl", PAIR, "", '{"prompt": '))


def test_a_line_that_is_no_row_is_found_by_its_number(tmp_path: Path) -> None:
    assert refused(write_lines(tmp_path / "rows.jsonl", PAIR, ["a", "list"])).endswith("one row each, not line 2")


@pytest.mark.parametrize(
    ("table", "row", "missing"),
    [
        ("preference", {"prompt": "a", "chosen": "b"}, "rejected"),
        ("preference", {**PAIR, "rejected": None}, "rejected"),
        ("unpaired", {"prompt": "a", "completion": "b"}, "label"),
        ("demonstrations", PAIR, "completion"),
        ("prompts", {"text": "a"}, "prompt"),
    ],
)
def test_a_row_of_another_type_is_told_what_it_lacks(
    tmp_path: Path, table: str, row: dict[str, Any], missing: str
) -> None:
    source = write_lines(tmp_path / "rows.jsonl", row)
    needed, there = ", ".join(COLUMNS[table]), ", ".join(row)
    assert refused(source, table) == (
        f"--dataset: row 1 of {source} has no {missing}: needed are {needed}, there are {there}"
    )


def test_a_label_that_is_false_is_there(tmp_path: Path) -> None:
    row = {"prompt": "a", "completion": "b", "label": False}
    assert rows_of(write_lines(tmp_path / "thumbs.jsonl", row), "unpaired", "train") == [row]


def test_a_row_without_any_column_says_so(tmp_path: Path) -> None:
    assert refused(write_lines(tmp_path / "rows.jsonl", {})).endswith("there are none")
