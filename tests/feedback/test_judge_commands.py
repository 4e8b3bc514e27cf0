"""`thumbwheel judge ...` as a person types it, against a real endpoint."""

import json
from collections.abc import Iterator
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
from tests.support.events import NOON
from tests.support.feedback import Event, Room
from tests.support.judging import chats, votes
from tests.support.scripted_judge import ScriptedJudge, running_judge

KEY = "sk-of-the-judge"


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    """A state directory with 12 pairs of answers, 8 of which people compared."""
    for name, value in {
        "THUMBWHEEL_HOME": str(tmp_path),
        "THUMBWHEEL_FEEDBACK__CUT_TIMEOUT_S": "0.2",
        "THUMBWHEEL_FEEDBACK__GATE_SHARE": "0",
        "THUMBWHEEL_FEEDBACK__REPORT_SHARE": "0",
        "THUMBWHEEL_FEEDBACK__AI_SHARED_MIN": "5",
        "THUMBWHEEL_FEEDBACK__JUDGE_MODEL": "judge-1",
        "THUMBWHEEL_FEEDBACK__JUDGE_KEY_VARIABLE": "JUDGE_KEY",
        "JUDGE_KEY": KEY,
    }.items():
        monkeypatch.setenv(name, value)
    prepare(load_settings())
    ports = Ports(load_settings())
    made = Room(tmp_path, ports.database, ports.sealer, ports.eventlog)
    shift = now() - NOON
    made.append(
        Event(e.body, e.name, {**e.header, "occurred_at": e.header["occurred_at"] + shift})
        for e in [*chats(12), *votes(8)]
    )
    made.consume()
    yield made
    ports.close()


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedJudge]:
    with running_judge(ScriptedJudge(key=KEY)) as serving:
        monkeypatch.setenv("THUMBWHEEL_FEEDBACK__JUDGE_URL", serving.url)
        yield serving


def run(*arguments: str) -> Result:
    root = typer.Typer()
    register(root)
    return CliRunner().invoke(root, ["judge", *arguments])


def told(result: Result) -> dict[str, Any]:
    return dict(json.loads(result.stdout))


def test_a_run_votes_and_says_what_it_cost_and_how_far_it_agrees_with_people(room: Room, judge: ScriptedJudge) -> None:
    result = run("run", "--json")
    assert result.exit_code == 0, result.output
    found = told(result)
    assert (found["pairs"], found["votes"], found["flipped"]) == (12, {"a": 0, "b": 12, "tie": 0}, 0)
    assert (found["requests"], found["prompt_tokens"], found["completion_tokens"]) == (24, 2400, 120)
    figures = found["against_people"]
    assert (figures["shared"], figures["agreement"]) == (8, 1.0)
    assert 0 < figures["lo"] < figures["hi"] == 1.0
    assert 0 < figures["weight"] < 1
    assert found["judge"].startswith("judge:judge-1:")


def test_the_key_is_sent_to_the_endpoint_and_printed_nowhere(room: Room, judge: ScriptedJudge) -> None:
    result = run("run")
    assert result.exit_code == 0
    assert KEY not in result.output


def test_a_second_run_has_nothing_left_to_ask_and_show_says_the_same(room: Room, judge: ScriptedJudge) -> None:
    first = told(run("run", "--json"))
    room.consume()
    again = told(run("run", "--json"))
    assert (again["pairs"], again["requests"]) == (0, 0)
    assert again["against_people"] == first["against_people"]
    shown = told(run("show", "--json"))
    assert shown["models"] == {shown["unit"]: first["against_people"]}
    assert any("longer" in principle for principle in shown["principles"])


def test_a_dry_run_asks_nothing(room: Room, judge: ScriptedJudge) -> None:
    assert told(run("run", "--dry-run", "--limit", "7", "--json"))["pairs"] == 7
    assert judge.requests == []


def test_a_wrong_key_exits_1_and_names_the_answer(
    room: Room, judge: ScriptedJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-wrong")
    result = run("run")
    assert result.exit_code == 1
    assert "answered 401" in result.stderr
    assert "0 votes are on the log" in result.stderr
    assert "sk-wrong" not in result.output


def test_a_key_that_is_not_set_exits_2_before_anything_is_asked(
    room: Room, judge: ScriptedJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JUDGE_KEY")
    result = run("run")
    assert result.exit_code == 2
    assert "JUDGE_KEY" in result.stderr
    assert judge.requests == []


def test_a_judge_that_says_nothing_clear_exits_1(
    room: Room, judge: ScriptedJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THUMBWHEEL_FEEDBACK__JUDGE_FORMAT", "letter")
    result = run("run")
    assert result.exit_code == 1
    assert "feedback.judge_format" in result.stderr


def test_without_an_endpoint_it_says_what_to_set(room: Room) -> None:
    result = run("run")
    assert result.exit_code == 2
    assert "feedback.judge_url" in result.stderr


def test_a_constitution_that_is_not_there_is_named(
    room: Room, judge: ScriptedJudge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THUMBWHEEL_FEEDBACK__JUDGE_CONSTITUTION", "nowhere.txt")
    result = run("show")
    assert result.exit_code == 1
    assert "nowhere.txt" in result.stderr
