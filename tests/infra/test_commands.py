import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from infra.cli import build
from infra.identity import key_hash
from infra.ports import Ports
from infra.registry import keys
from infra.settings import load_settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THUMBWHEEL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def thumbwheel(*words: str) -> Result:
    return CliRunner().invoke(build(), [*words])


def test_status_of_a_home_where_nothing_runs_says_so_and_exits_one(home: Path) -> None:
    done = thumbwheel("status", "--json")
    assert done.exit_code == 1
    assert json.loads(done.output) == {"state": "stopped", "home": str(home), "processes": {}, "figures": {}}


def test_down_where_nothing_runs_is_no_failure(home: Path) -> None:
    done = thumbwheel("down", "--json")
    assert done.exit_code == 0
    assert json.loads(done.output)["stopped"] is False


def test_settings_are_printed_with_their_source_and_secrets_masked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBWHEEL_INFRA__SECRET", "do-not-print-me")
    printed = thumbwheel("settings", "--json").output
    found = {setting["name"]: setting for setting in json.loads(printed)}
    assert found["infra.secret"]["value"] == "********"
    assert found["infra.secret"]["source"] == "THUMBWHEEL_INFRA__SECRET"
    assert "do-not-print-me" not in printed + thumbwheel("settings").output


def test_init_makes_keys_that_the_gateway_will_take_and_only_their_owner_can_read(home: Path) -> None:
    told = json.loads(thumbwheel("infra", "init", "--json").output)
    made = json.loads(Path(told["keys"]).read_text())
    assert Path(told["keys"]).stat().st_mode & 0o777 == 0o600
    scopes = {name: principals()[key_hash(key)].scopes for name, key in made.items()}
    assert scopes == {"client": {"chat", "feedback"}, "admin": {"chat", "feedback", "raters", "admin"}}


def test_init_again_changes_no_key(home: Path) -> None:
    thumbwheel("infra", "init")
    before = (home / "keys.json").read_text()
    assert thumbwheel("infra", "init").exit_code == 0
    assert (home / "keys.json").read_text() == before
    assert len(principals()) == 2


def test_a_key_is_shown_once_and_kept_as_a_hash(home: Path) -> None:
    thumbwheel("infra", "init")
    key = thumbwheel("key", "create", "browser", "--scope", "feedback").output.strip()
    assert principals()[key_hash(key)].scopes == {"feedback"}
    assert key not in thumbwheel("key", "list").output


def test_a_revoked_key_is_dead_but_remembered(home: Path) -> None:
    thumbwheel("infra", "init")
    key = json.loads(thumbwheel("key", "create", "browser", "--json").output)["key"]
    assert thumbwheel("key", "revoke", "browser").exit_code == 0
    assert key_hash(key) not in principals()
    listed = {row["name"]: row for row in json.loads(thumbwheel("key", "list", "--json").output)}
    assert listed["browser"]["revoked_at"] is not None


def test_an_unknown_scope_is_a_usage_error_that_lists_the_known(home: Path) -> None:
    thumbwheel("infra", "init")
    done = thumbwheel("key", "create", "browser", "--scope", "everything")
    assert done.exit_code == 2
    assert "chat, feedback, raters, admin" in done.output


def test_migrate_says_where_it_came_from_and_where_it_is(home: Path) -> None:
    first = json.loads(thumbwheel("infra", "migrate", "--json").output)
    second = json.loads(thumbwheel("infra", "migrate", "--json").output)
    assert first["before"] is None
    assert second == {"before": first["after"], "after": first["after"]}


def test_doctor_exits_one_and_names_what_is_amiss(home: Path) -> None:
    done = thumbwheel("doctor", "--json", "--model", str(home / "no-model"))
    found = {finding["check"]: finding for finding in json.loads(done.output)}
    assert done.exit_code == 1
    assert "is no model directory" in found["model"]["problem"]
    assert found["disk"]["problem"] == ""


def test_logs_are_printed_with_their_process(home: Path) -> None:
    (home / "logs").mkdir(parents=True)
    (home / "logs" / "gateway.log").write_text("one\ntwo\n")
    (home / "logs" / "feedback.log").write_text("three\n")
    assert thumbwheel("logs", "-n", "1").output.splitlines() == ["feedback  three", "gateway   two"]
    assert thumbwheel("logs", "gateway").output.splitlines() == ["one", "two"]
    assert json.loads(thumbwheel("logs", "feedback", "--json").output) == {"process": "feedback", "line": "three"}


def principals() -> dict[str, keys.Principal]:
    ports = Ports(load_settings())
    try:
        with ports.database.reading() as session:
            return keys.principals(session)
    finally:
        ports.close()
