"""`thumbwheel rater ...` as a person types it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import select
from typer.testing import CliRunner, Result

from feedback.commands import register
from feedback.tables import InferenceRow
from infra.home import prepare
from infra.ports import Ports
from infra.settings import load_settings
from tests.support.events import make_feedback, make_inference
from tests.support.feedback import Event, Room
from tests.support.people import yesterday


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """A state directory in which Mia has chatted and voted."""
    monkeypatch.setenv("THUMBWHEEL_HOME", str(tmp_path))
    prepare(load_settings())
    ports = Ports(load_settings())
    made = Room(tmp_path, ports.database, ports.sealer, ports.eventlog)
    mia = {"rater": ports.identity.rater("default", "mia"), "occurred_at": yesterday()}
    made.append([Event(make_inference("r1"), "chat", mia), Event(make_feedback("r1"), "thumb", mia)])
    made.consume()
    yield made
    ports.close()


def run(*arguments: str) -> Result:
    root = typer.Typer()
    register(root)
    return CliRunner().invoke(root, ["rater", *arguments])


@contextmanager
def feedback_process(room: Room) -> Iterator[None]:
    """What the process does, in a thread."""
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.05):
            room.consume()
            room.eraser().turn()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def parsed(result: Result) -> dict[str, Any]:
    """The document; the thread beside writes its log to the same place."""
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout[result.stdout.index("{\n") :]))


def test_erase_waits_until_everything_is_done(room: Room) -> None:
    with feedback_process(room):
        told = parsed(run("erase", "mia", "--json"))
    assert (told["state"], told["report"]["keys"]) == ("done", 1)
    assert told["report"]["blanked"] == {"inferences": 1, "vote_events": 1, "vote_targets": 1, "votes": 1}
    with room.database.reading() as session:
        assert session.scalars(select(InferenceRow.sealed)).all() == [b""]


def test_erase_tells_people_in_a_table(room: Room) -> None:
    with feedback_process(room):
        result = run("erase", "mia")
    assert result.exit_code == 0
    assert "done" in result.stdout
    assert "inferences 1" in result.stdout


def test_erase_detached_returns_once_the_key_is_gone(room: Room) -> None:
    told = parsed(run("erase", "mia", "--detach", "--json"))
    assert told["state"] == "accepted"
    assert room.consume() == 1
    kinds = [json.loads(line)["kind"] for line in run("export", "mia").stdout.splitlines()]
    assert kinds == ["export", "erasure"]


def test_export_prints_json_lines(room: Room) -> None:
    lines = [json.loads(line) for line in run("export", "mia").stdout.splitlines()]
    assert [line["kind"] for line in lines] == ["export", "inference", "feedback", "choice", "vote"]


def test_export_writes_a_file_and_says_what_is_in_it(room: Room, tmp_path: Path) -> None:
    file = tmp_path / "mia.jsonl"
    told = parsed(run("export", "mia", str(file), "--json"))
    assert told == {"file": str(file), "lines": {"export": 1, "inference": 1, "feedback": 1, "choice": 1, "vote": 1}}
    assert len(file.read_text().splitlines()) == 5
    again = run("export", "mia", str(file))
    assert again.exit_code == 2


def test_another_tenants_person_is_another_one(room: Room) -> None:
    lines = [json.loads(line) for line in run("export", "mia", "--tenant", "acme").stdout.splitlines()]
    assert [line["kind"] for line in lines] == ["export"]
