import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from infra.cli import build
from infra.contracts.events import INFERENCE_TOPIC, Envelope, Inference
from infra.database.tables import CheckRow
from infra.ports import Ports
from infra.registry import audit, checks
from infra.settings import load_settings
from tests.support.checks import question_body


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THUMBWHEEL_HOME", str(tmp_path / "home"))
    thumbwheel("infra", "init")
    return tmp_path / "home"


def thumbwheel(*words: str) -> Result:
    return CliRunner().invoke(build(), [*words])


def planted(home: Path, *prompts: str) -> Result:
    file = home / "checks.jsonl"
    file.write_text("\n".join(json.dumps(question_body(prompt)) for prompt in prompts) + "\n\n")
    return thumbwheel("checks", "plant", "--file", str(file), "--json")


def rows(home: Path) -> list[CheckRow]:
    ports = Ports(load_settings(home))
    with ports.database.reading() as session:
        found = list(checks.list_checks(session, "default"))
    ports.close()
    return found


def roles(home: Path) -> dict[str, str | None]:
    """What the log holds: response id to role."""
    ports = Ports(load_settings(home))
    records = ports.eventlog.consumer("test", [INFERENCE_TOPIC]).poll(100, 0.05)
    bodies = [ports.sealer.open(Envelope.model_validate_json(record.value), Inference) for record in records]
    ports.close()
    return {body.response_id: body.check for body in bodies}


def test_each_line_becomes_a_check_whose_answers_are_on_the_log(home: Path) -> None:
    told = json.loads(planted(home, "What does math.cos do?", "And math.sin?").output)
    assert [row.check_id for row in reversed(rows(home))] == [one["check_id"] for one in told]
    assert [row.alias for row in rows(home)] == ["assistant"] * 2
    on_log = roles(home)
    assert set(on_log) == {answer for one in told for answer in one["answers"]}
    for row in rows(home):
        better, worse = (row.response_a, row.response_b)[:: 1 if row.better == "a" else -1]
        assert (on_log[better], on_log[worse]) == ("better", "worse")


def test_what_is_printed_does_not_say_which_answer_is_the_better_one(home: Path) -> None:
    done = planted(home, "Why?")
    assert set(json.loads(done.output)[0]) == {"check_id", "answers"}
    assert "better" not in done.output + thumbwheel("checks", "list").output


def test_checks_are_listed_and_retired_and_the_audit_says_by_whom(home: Path) -> None:
    (told,) = json.loads(planted(home, "Why?").output)
    (shown,) = json.loads(thumbwheel("checks", "list", "--json").output)
    assert (shown["check_id"], shown["asks"], shown["retired_at"]) == (told["check_id"], "Why?", None)
    assert json.loads(thumbwheel("checks", "retire", told["check_id"], "--json").output) == {
        "retired": told["check_id"]
    }
    assert rows(home)[0].retired_at is not None
    ports = Ports(load_settings(home))
    with ports.database.reading() as session:
        found = audit.list_entries(session, "default", subject=told["check_id"])
    ports.close()
    assert [(entry.action, entry.actor.partition(":")[0]) for entry in found] == [
        ("check.retire", "cli"),
        ("check.plant", "cli"),
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"messages": []}', "line 2: messages"),
        ('{"messages": [{"role": "user", "content": "Hm?"}], "better": "b", "worse": "secret"', "line 2: "),
        (json.dumps(question_body(better="secret", worse="secret ")), "line 2: Value error, `better` and"),
    ],
)
def test_a_file_with_a_wrong_line_plants_nothing_and_names_the_line_only(home: Path, line: str, said: str) -> None:
    file = home / "checks.jsonl"
    file.write_text(json.dumps(question_body()) + "\n" + line)
    done = thumbwheel("checks", "plant", "--file", str(file))
    assert (done.exit_code, rows(home), roles(home)) == (2, [], {})
    assert said in done.output
    assert "secret" not in done.output


def test_an_empty_file_and_an_alias_that_nobody_serves_are_refused(home: Path) -> None:
    assert planted(home).exit_code == 2
    (home / "other.jsonl").write_text(json.dumps(question_body(model="other")))
    done = thumbwheel("checks", "plant", "--file", str(home / "other.jsonl"))
    assert (done.exit_code, rows(home), roles(home)) == (1, [], {})
