import socket
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import structlog
import typer
from typer.testing import CliRunner

from infra import cli
from infra.base_model import NotAModel
from infra.registry.errors import Conflict
from infra.settings import SettingsError
from tests.support.model_files import make_model_files

NOUNS = {"up", "down", "status", "logs", "doctor", "settings", "demo", "cycle", "dataset", "adapter", "rollout"}
VERBS = {"promote", "rollback", "gate", "train", "checks", "key", "infra"}


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


def test_every_command_and_option_says_what_it_does() -> None:
    root = typer.main.get_command(cli.build())
    assert list(without_help("thumbwheel", root)) == []


def without_help(name: str, command: object) -> list[str]:
    found = [] if command.help else [name]  # type: ignore[attr-defined]
    for word, sub in getattr(command, "commands", {}).items():
        found += without_help(f"{name} {word}", sub)
    parameters = [parameter for parameter in command.params if parameter.name != "help"]  # type: ignore[attr-defined]
    return found + [f"{name} {parameter.name}" for parameter in parameters if not parameter.help]


def test_what_a_command_logs_stays_off_its_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    root = typer.Typer()
    root.callback()(cli._options)
    root.command()(noisy)
    CliRunner().invoke(root, ["noisy"])  # with another standard error, which is closed by now
    with pytest.raises(SystemExit):
        root(["noisy"])
    printed = capsys.readouterr()
    assert printed.out == "the answer\n"
    assert "something_odd" in printed.err
    assert "something_usual" not in printed.err


def noisy() -> None:
    """Says more than it should."""
    structlog.get_logger().info("something_usual")
    structlog.get_logger().warning("something_odd")
    typer.echo("the answer")


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


@pytest.mark.parametrize(
    ("model", "setting", "said"),
    [
        (
            "nowhere",
            ("GATEWAY__PORT", "0"),
            "nowhere is no model directory: config.json, tokenizer_config.json missing",
        ),
        ("model", ("SERVING__KV_CACHE_GIB", "1000000"), "too little memory: about 1000003.0 GiB are needed"),
        ("model", ("GATEWAY__PORT", "taken"), "is taken: stop who uses it or choose another with --port"),
    ],
)
@pytest.mark.parametrize("how", [["--detach"], []])
def test_a_start_that_cannot_be_is_refused_in_one_line_with_exit_code_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, setting: tuple[str, str], said: str, how: list[str]
) -> None:
    make_model_files(tmp_path / "model")
    name, value = setting
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("THUMBWHEEL_GATEWAY__PORT", "0")
        monkeypatch.setenv(f"THUMBWHEEL_{name}", str(taken.getsockname()[1]) if value == "taken" else value)
        done = thumbwheel("--home", str(tmp_path / "home"), "up", *how, "--model", str(tmp_path / model))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr
    assert not (tmp_path / "home" / "state.db").exists()


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
