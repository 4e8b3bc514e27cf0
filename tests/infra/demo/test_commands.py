from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from infra.demo import commands


@pytest.fixture
def root() -> typer.Typer:
    app = typer.Typer()
    app.callback()(lambda: None)
    commands.register(app)
    return app


def test_a_directory_that_is_not_the_demo_s_is_refused_in_one_line(root: typer.Typer, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("four years")
    done = CliRunner().invoke(root, ["demo", "--directory", str(tmp_path)])
    assert done.exit_code == 2
    assert "name another" in done.stderr
    assert (tmp_path / "thesis.txt").exists()


def test_a_missing_library_is_named(root: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "NEEDS", ("openai", "no_such_library"))
    done = CliRunner().invoke(root, ["demo"])
    assert done.exit_code == 2
    assert "no_such_library" in done.stderr


@pytest.mark.parametrize("arguments", [["--votes", "dice"], ["--size", "huge"], ["--cycles", "0"]])
def test_what_the_demo_does_not_know_is_refused(root: typer.Typer, arguments: list[str]) -> None:
    assert CliRunner().invoke(root, ["demo", *arguments]).exit_code == 2
