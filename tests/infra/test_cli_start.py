"""The command answers at once: what its commands need is loaded when they are called."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from infra.cli import main
sys.argv = ["thumbwheel", "--home", {home!r}, *{words!r}]
try:
    main()
except SystemExit:
    pass
print("LOADED", *sys.modules)
"""
ALWAYS = {"torch", "transformers", "peft", "vllm", "celery", "alembic", "pyarrow", "openai", "plotly", "fastapi"}
DATABASE = {"sqlalchemy", "cryptography", "jwt", "fsspec"}


def loaded(home: Path, *words: str) -> set[str]:
    """The packages in memory after `thumbwheel WORDS`."""
    script = SCRIPT.format(home=str(home), words=words)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    _, found, modules = done.stdout.rpartition("LOADED")
    assert found
    return {module.partition(".")[0] for module in modules.split()}


@pytest.mark.parametrize("words", [["--help"], ["adapter", "--help"]])
def test_help_waits_for_nothing_that_it_does_not_show(tmp_path: Path, words: list[str]) -> None:
    assert not loaded(tmp_path, *words) & (ALWAYS | DATABASE)


@pytest.mark.parametrize("words", [["status"], ["adapter", "list"], ["key", "list"]])
def test_looking_needs_neither_migrations_nor_training(tmp_path: Path, words: list[str]) -> None:
    assert not loaded(tmp_path, *words) & ALWAYS
