"""`thumbwheel trace` as a person types it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from feedback.commands import register
from infra.clock import now
from infra.home import prepare
from infra.ports import Ports
from infra.settings import load_settings
from tests.support.events import event_id, make_choice, make_feedback, make_inference
from tests.support.feedback import Event, Room
from tests.support.lineages import VERSION, train
from tests.support.people import mias_day, others_day, yesterday


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """A state directory with a version that was trained on a dataset, and an answer that it gave."""
    monkeypatch.setenv("THUMBWHEEL_HOME", str(tmp_path))
    prepare(load_settings())
    ports = Ports(load_settings())
    made = Room(tmp_path, ports.database, ports.sealer, ports.eventlog)
    made.append([*mias_day(), *others_day()])
    made.consume()
    train(made, made.build(as_of=now()))
    late = {"occurred_at": yesterday(3600), "rater": "rater-late"}
    made.append(
        [
            Event(make_inference("late", choices=[make_choice(version=VERSION)]), "late", late),
            Event(make_feedback("late", comment="[red]pomegranate[/red]"), "late thumb", late),
        ]
    )
    made.consume()
    yield made
    ports.close()


def run(*arguments: str) -> Result:
    root = typer.Typer()
    root.callback()(lambda: None)
    register(root)
    return CliRunner().invoke(root, ["trace", *arguments])


def test_an_answer_is_told_as_a_tree(room: Room) -> None:
    result = run("late")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "answer late"
    for said in (
        f"choice 0 by {VERSION}: champion, propensity 1, stop",
        f"version {VERSION}: published, grpo from its anchor",
        "gates: pass",
        "judge: pass",
        "cycle 1: accepted, started by test",
        f"reward model {VERSION}-reward of cycle 1",
        "1 vote",
    ):
        assert any(said in line for line in lines), result.stdout
    assert "pomegranate" not in result.stdout


def test_an_answer_is_told_as_json_with_a_page_of_the_events_behind_it(room: Room) -> None:
    told = json.loads(run("late", "--events", "--limit", "5", "--offset", "2", "--json").stdout)
    events = told["versions"][0]["events"]
    assert (len(events["page"]), events["offset"], events["complete"]) == (5, 2, True)
    assert events["count"] > 7
    plain = json.loads(run("late", "--json").stdout)
    assert plain["versions"][0]["events"]["page"] == []
    assert told["votes"][0]["event_id"] == event_id("late thumb").hex


def test_an_event_is_told_as_a_tree_and_as_json(room: Room) -> None:
    name = event_id("her choice 0").hex
    result = run("--event", name)
    assert result.exit_code == 0, result.output
    assert f"event {name} comparison by human: joined" in result.stdout
    assert "preference/train" in result.stdout
    assert f"version {VERSION}: published, of cycle 1" in result.stdout
    told = json.loads(run("--event", name, "--json").stdout)
    assert [one["version"] for one in told["versions"]] == [VERSION]
    assert [one["cycle_id"] for one in told["cycles"]] == ["1"]
    assert "no dataset has rows of it" in run("--event", "late").stdout


def test_what_is_not_there_fails_with_one_line(room: Room) -> None:
    for arguments in (["nothing"], ["--event", "nothing"], ["late", "--tenant", "acme"]):
        result = run(*arguments)
        assert result.exit_code == 1
        assert len(result.stderr.splitlines()) == 1
        assert "is stored" in result.stderr


def test_one_thing_is_traced_at_a_time(room: Room) -> None:
    assert run().exit_code == 2
    assert run("late", "--event", "late").exit_code == 2
