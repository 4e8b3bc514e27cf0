import json
import tomllib
from pathlib import Path

import pytest

from infra.demo.plan import plan_for
from infra.demo.shell import CommandFailed, Shell
from infra.demo.stack import NotOurs, Stack
from infra.settings import load_settings


def make_stack(tmp_path: Path) -> Stack:
    stack = Stack(tmp_path / "demo")
    stack.directory.mkdir(parents=True)
    return stack


@pytest.mark.parametrize("size", ["full", "smoke"])
def test_the_demo_s_settings_are_settings_that_exist(tmp_path: Path, size: str) -> None:
    stack = make_stack(tmp_path)
    stack.configure(plan_for("full" if size == "full" else "smoke"), seed=7, method="grpo")
    settings = load_settings(stack.directory, environ={})
    assert settings.trainer.seed == 7
    assert settings.trainer.reward_features is True
    assert settings.trainer.regression_file == str(stack.checks)
    assert settings.gateway.port == 0


def test_paths_with_quotes_survive_the_settings_file(tmp_path: Path) -> None:
    stack = make_stack(tmp_path / 'a "b" \\c')
    stack.configure(plan_for("smoke"), seed=0, method="grpo")
    document = tomllib.loads((stack.directory / "config.toml").read_text())
    assert document["trainer"]["regression_file"] == str(stack.checks)


def test_keys_are_read_from_the_key_file(tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    (stack.directory / "keys.json").write_text(json.dumps({"client": "c", "admin": "a"}))
    assert (stack.keys().client, stack.keys().admin) == ("c", "a")


async def test_clearing_leaves_an_empty_directory(tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    stack.corpus.write_text("")
    (stack.directory / "report.json").write_text("{}")
    await stack.clear()
    assert list(stack.directory.iterdir()) == []


async def test_a_directory_that_is_not_the_demo_s_is_left_alone(tmp_path: Path) -> None:
    stack = make_stack(tmp_path)
    (stack.directory / "thesis.txt").write_text("four years")
    with pytest.raises(NotOurs):
        await stack.clear()
    assert (stack.directory / "thesis.txt").read_text() == "four years"


async def test_a_command_that_fails_says_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="no-such-command") as failed:
        await Shell(tmp_path).run("no-such-command")
    assert failed.value.status == 2
