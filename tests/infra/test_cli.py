import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from infra import cli
from infra.base_model import NotAModel
from infra.registry.errors import Conflict
from infra.settings import SettingsError

NOUNS = {"up", "down", "status", "logs", "doctor", "settings", "demo", "cycle", "dataset", "adapter", "rollout"}
VERBS = {"promote", "rollback", "gate", "train", "key", "infra"}


def thumbwheel(*words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "infra.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_lists_the_commands_of_every_room() -> None:
    printed = CliRunner().invoke(cli.build(), ["--help"]).output
    assert {word for word in NOUNS | VERBS if f"│ {word} " not in printed} == set()


def test_every_command_can_print_json() -> None:
    """But for those that lead to other commands."""
    root = typer.main.get_command(cli.build())
    assert list(without_json("thumbwheel", root)) == []


def without_json(name: str, command: object) -> list[str]:
    if subcommands := getattr(command, "commands", None):
        return [found for word, sub in subcommands.items() for found in without_json(f"{name} {word}", sub)]
    options = [option for parameter in command.params for option in parameter.opts]  # type: ignore[attr-defined]
    return [] if "--json" in options else [name]


def test_the_state_directory_can_be_named_for_any_command(tmp_path: Path) -> None:
    done = thumbwheel("--home", str(tmp_path / "here"), "infra", "init")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "here" / "state.db").is_file()


def test_a_bad_setting_is_one_line_and_exit_code_two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("THUMBWHEEL_GATEWAY__PROT", "1")
    done = thumbwheel("--home", str(tmp_path), "status")
    assert done.returncode == 2
    assert done.stderr == "thumbwheel: gateway.prot: there is no such setting (see `thumbwheel settings`)\n"


def test_a_database_that_is_not_there_names_the_command_that_makes_it(tmp_path: Path) -> None:
    done = thumbwheel("--home", str(tmp_path / "nowhere"), "key", "list")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "`thumbwheel up`" in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("gateway.port: bad"), 2),
        (NotAModel("no model"), 2),
        (Conflict("a cycle is running"), 1),
        (ZeroDivisionError("a fault of ours"), None),
    ],
)
def test_only_what_a_person_can_mend_is_told_without_a_traceback(error: Exception, code: int | None) -> None:
    assert cli.exit_code(error) == code


def test_a_room_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = EntryPoint("absent", "no_such_room.commands:register", cli.GROUP)
    monkeypatch.setattr(cli, "entry_points", lambda group: [absent])
    assert cli.build().registered_commands == []


def test_a_room_whose_library_is_missing_is_not_left_out_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("broken", "tests.support.no_such_module:register", cli.GROUP)
    monkeypatch.setattr(cli, "entry_points", lambda group: [broken])
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        cli.build()
