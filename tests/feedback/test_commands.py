"""`thumbwheel dataset ...` as a person types it."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from feedback.commands import register
from infra.clock import now
from infra.home import prepare
from infra.ports import Ports
from infra.settings import load_settings
from tests.support.events import NOON, key_of, make_envelope, topic_of
from tests.support.feedback import Room, a_days_events


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory with a day's votes, stored."""
    for name, value in {
        "THUMBWHEEL_HOME": str(tmp_path),
        "THUMBWHEEL_FEEDBACK__CUT_TIMEOUT_S": "0.2",
        "THUMBWHEEL_FEEDBACK__GATE_SHARE": "0",
        "THUMBWHEEL_FEEDBACK__REPORT_SHARE": "0",
    }.items():
        monkeypatch.setenv(name, value)
    prepare(load_settings())
    vote(tmp_path, pairs=12)
    return tmp_path


def vote(home: Path, pairs: int, *, stored: bool = True) -> None:
    """A day's votes that were cast just now."""
    ports = Ports(load_settings(home))
    room = Room(home, ports.database, ports.sealer, ports.eventlog)
    shift = now() - NOON
    room.append_raw(
        (
            topic_of(event.body),
            key_of(event.body),
            make_envelope(
                ports.sealer, event.body, event.name,
                **{**event.header, "occurred_at": event.header["occurred_at"] + shift},
            ),
        )
        for event in a_days_events(pairs)
    )  # fmt: skip
    if stored:
        room.consume()
    ports.close()


def run(*arguments: str) -> Result:
    root = typer.Typer()
    register(root)
    return CliRunner().invoke(root, ["dataset", *arguments])


def build() -> dict[str, Any]:
    result = run("build", "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_build_makes_a_dataset_and_prints_its_manifest(home: Path) -> None:
    manifest = build()
    assert manifest["alias"] == "assistant"
    assert manifest["counts"]["prompts"] == {"train": 12}
    assert (home / "artifacts" / "datasets" / "default" / manifest["dataset_id"] / "_READY").is_file()


def test_build_prints_tables_for_people(home: Path) -> None:
    result = run("build")
    assert result.exit_code == 0
    assert "preference" in result.stdout
    assert "sha256" in result.stdout


def test_the_same_votes_make_the_same_hash(home: Path) -> None:
    assert build()["sha256"] == build()["sha256"]


def test_a_dataset_without_rows_exits_1_and_says_why(home: Path) -> None:
    result = run("build", "--alias", "helper")
    assert result.exit_code == 1
    assert "no votes on helper" in result.stderr


def test_votes_that_are_not_stored_yet_are_waited_for_and_named(home: Path) -> None:
    vote(home, pairs=14, stored=False)
    result = run("build")
    assert result.exit_code == 1
    assert "is the consumer running?" in result.stderr


def test_list_shows_the_newest_first(home: Path) -> None:
    ids = [build()["dataset_id"] for _ in range(2)]
    listed = json.loads(run("list", "--json").stdout)
    assert {found["dataset_id"] for found in listed} == set(ids)
    assert "files" not in listed[0]
    assert ids[0] in run("list").stdout


def test_show_prints_one_dataset_with_its_files(home: Path) -> None:
    manifest = build()
    assert json.loads(run("show", manifest["dataset_id"], "--json").stdout) == manifest


def test_a_dataset_that_is_not_there_exits_1(home: Path) -> None:
    result = run("show", "nowhere")
    assert result.exit_code == 1
    assert "there is no dataset nowhere" in result.stderr


def test_diff_tells_what_changed(home: Path) -> None:
    before = build()["dataset_id"]
    vote(home, pairs=15)
    after = build()["dataset_id"]
    found = json.loads(run("diff", before, after, "--json").stdout)
    prompts = next(change for change in found["rows"] if change["table"] == "prompts")
    assert not found["same"]
    assert (prompts["before"], prompts["added"], prompts["removed"]) == (12, 3, 0)
    assert "shards changed" in run("diff", before, after).stdout


def test_diff_of_a_dataset_with_itself_is_empty(home: Path) -> None:
    same = build()["dataset_id"]
    found = json.loads(run("diff", same, same, "--json").stdout)
    assert found["same"]
    assert (found["filtered"], found["settings"]) == ([], [])


def test_export_writes_the_parquet_files_as_they_are(home: Path, tmp_path: Path) -> None:
    manifest = build()
    target = tmp_path / "export"
    result = run("export", manifest["dataset_id"], str(target), "--json")
    assert result.exit_code == 0
    assert {file["path"] for file in manifest["files"]} <= {
        str(p.relative_to(target)) for p in target.rglob("*.parquet")
    }


def test_export_writes_json_lines_that_trl_reads(home: Path, tmp_path: Path) -> None:
    manifest = build()
    target = tmp_path / "export"
    assert run("export", manifest["dataset_id"], str(target), "--format", "jsonl").exit_code == 0
    rows = [json.loads(line) for line in (target / "preference-train.jsonl").read_text().splitlines()]
    assert len(rows) == manifest["counts"]["preference"]["train"]
    assert all(set(row["chosen"][0]) == {"role", "content"} for row in rows)


def test_export_overwrites_nothing(home: Path, tmp_path: Path) -> None:
    dataset_id = build()["dataset_id"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    result = run("export", dataset_id, str(tmp_path / "mine"))
    assert result.exit_code == 2
    assert "is not empty" in result.stderr


def test_a_bad_setting_exits_2_and_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBWHEEL_FEEDBACK__TEST_SHARE", "3")
    result = run("list")
    assert result.exit_code == 2
    assert "feedback.test_share" in result.stderr


def test_a_directory_that_was_never_started_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBWHEEL_HOME", str(tmp_path / "fresh"))
    (tmp_path / "fresh").mkdir()
    result = run("list")
    assert result.exit_code == 1
    assert "thumbwheel infra migrate" in result.stderr
