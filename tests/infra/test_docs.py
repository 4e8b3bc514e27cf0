"""The pages say what is so: commands, options, routes, links, metrics and settings that they name exist, and the API
page's Python runs as it stands."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import typer
from prometheus_client import CollectorRegistry
from typer.core import TyperGroup

import feedback.metrics
import gateway.metrics
import serving.metrics
import trainer.metrics
from gateway.app import make_app
from infra.cli import build
from infra.settings import Settings, describe_settings
from tests.support.home import make_ports
from tests.support.scene import open_scene

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
MADE = {ROOT / "docs" / "settings.md"}  # from the code
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"(?:^|`|&& )(thumbwheel [^`\n#]*)", re.MULTILINE)
ROUTE = re.compile(r"\b(GET|POST|DELETE) (/[a-z0-9/_{}:.]+)")
METRIC = re.compile(r"thumbwheel_[a-z_]+")
SETTING = re.compile(r"`((?:infra|gateway|feedback|trainer|serving)\.[a-z_]+)`")
TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)
NAMED_TEST = re.compile(r"`(test_\w+)`")
TREE_ENTRY = re.compile(r"^( *)([\w./]+)  ", re.MULTILINE)
OUTSIDE = ("/healthz", "/readyz", "/metrics", "/openapi.json")  # not in the OpenAPI document


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def written(*pages: Path) -> str:
    return "\n".join(page.read_text() for page in pages or PAGES)


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in FENCED.findall(page.read_text()) if found == language]


@cache
def root_command() -> TyperGroup:
    command = typer.main.get_command(build())
    assert isinstance(command, TyperGroup)
    return command


def faults(line: str) -> Iterator[str]:
    """What of a command line does not exist: a command, an option, or an argument too many."""
    command, arguments = root_command(), 0
    words = iter(shlex.split(line)[1:])
    for word in words:
        if word.startswith("-"):
            option = next((p for p in command.params if word in p.opts), None)
            if option is None:
                yield f"{command.name} has no option {word}"
            elif not getattr(option, "is_flag", False):
                next(words, None)
        elif isinstance(command, TyperGroup):
            if word not in command.commands:
                yield f"{command.name} has no command {word}"
                return
            command = command.commands[word]  # type: ignore[assignment]  # a group or a command: both have params
        else:
            arguments += 1
    if arguments > sum(p.param_type_name == "argument" for p in command.params):
        yield f"{command.name} takes fewer arguments"


def anchors(page: Path) -> set[str]:
    """As a renderer makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def commands() -> list[str]:
    return sorted({line.strip() for page in PAGES for line in COMMAND.findall(page.read_text())})


@pytest.mark.parametrize("line", commands())
def test_a_command_that_a_page_names_exists_with_its_options(line: str) -> None:
    assert list(faults(line)) == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("thumbwheel fly", "has no command fly"),
        ("thumbwheel cycle trigger --hard", "has no option --hard"),
        ("thumbwheel cycle show 1 2", "takes fewer arguments"),
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str, fault: str) -> None:
    assert [fault in found for found in faults(line)] == [True]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_relative_link_of_a_page_resolves(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert not anchor or anchor in anchors(target), f"{link} names no heading"


def test_the_api_page_names_every_route_and_no_other(tmp_path: Path) -> None:
    ports = make_ports(tmp_path)
    paths = make_app(ports, "http://here").openapi()["paths"]
    real = {(method.upper(), path) for path, operations in paths.items() for method in operations}
    named = {(method, path.rstrip(".")) for method, path in ROUTE.findall(written(ROOT / "docs" / "api.md"))}
    assert named == real | {("GET", path) for path in OUTSIDE}
    ports.close()


async def test_the_routes_outside_of_the_openapi_document_exist(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene:
        assert [(await scene.http.get(path)).status_code for path in OUTSIDE] == [200] * len(OUTSIDE)


async def test_the_python_of_the_api_page_runs_as_it_stands(tmp_path: Path) -> None:
    script = "\n".join(blocks(ROOT / "docs" / "api.md", "python"))
    async with open_scene(tmp_path) as scene:
        keys = {"KEY": scene.stack.client_key, "ADMIN": scene.stack.admin_key}
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", script], env={**os.environ, **keys, "BASE": scene.url},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert [body.kind for _, body in scene.stack.feedback_events()].count("thumbs") == 2


@pytest.mark.training
def test_the_readme_trains_from_a_file_as_it_stands(tmp_path: Path) -> None:
    """With an empty directory and nothing running; the adapter learns what the file prefers."""
    [script] = blocks(ROOT / "README.md", "sh")
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "thumbwheel"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m infra.cli "$@"\n')
    command.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    environ = {
        "PATH": f"{command.parent}:{Path(sys.executable).parent}:/usr/bin:/bin", "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    done = subprocess.run(
        ["sh", "-e", "-c", script], cwd=work, env=environ, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (work / "adapter" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["rewards/accuracies"] > 0.9 > lines[0]["rewards/accuracies"]
    assert {path.name for path in work.iterdir()} == {"adapter", "base", "chats.jsonl", "pairs.jsonl"}


def test_the_bodies_that_the_api_page_sends_by_curl_are_json() -> None:
    bodies = re.findall(r"-d '(\{.*?\})'$", written(ROOT / "docs" / "api.md"), re.MULTILINE | re.DOTALL)
    assert len(bodies) >= 6
    for body in bodies:
        json.loads(body.replace("'$ID'", "ID"))


def test_every_metric_that_a_page_names_is_measured() -> None:
    feedbacks, servings, trainers = CollectorRegistry(), CollectorRegistry(), CollectorRegistry()
    feedback.metrics.Metrics(feedbacks)
    serving.metrics.Metrics(servings)
    trainer.metrics.Metrics(trainers)
    registries = [gateway.metrics.Metrics().registry, feedbacks, servings, trainers]
    measured = {name for registry in registries for name in registry._names_to_collectors}
    assert set(METRIC.findall(written())) - measured == set()


def test_every_setting_that_a_page_names_exists() -> None:
    known = {setting.name for setting in describe_settings(Settings(), environ={})}
    programs = {f"{path.parent.name}.{path.stem}" for path in ROOT.glob("*/*.py")}
    assert set(SETTING.findall(written())) - known - programs == set()


def test_every_test_that_a_page_names_exists() -> None:
    real = {name for path in (ROOT / "tests").rglob("test_*.py") for name in TEST.findall(path.read_text())}
    assert set(NAMED_TEST.findall(written())) - real == set()


def test_the_tree_of_the_readme_is_the_tree() -> None:
    tree = written(ROOT / "README.md").partition("## The tree")[2]
    room, named = "", set()
    for indent, name in TREE_ENTRY.findall(FENCED.search(tree)[2]):  # type: ignore[index]  # there is one
        room = room if indent else name
        named.add(f"{room}{name}" if indent else name)
    assert {name for name in named if not (ROOT / name).exists()} == set()
    packages = {f"{path.parent.relative_to(ROOT)}/" for path in ROOT.glob("[a-z]*/**/__init__.py")}
    assert packages - named == set()


@pytest.mark.parametrize("page", sorted(set(PAGES) - MADE), ids=page_id)
def test_a_page_can_be_read_in_a_terminal(page: Path) -> None:
    """Tables may be wider."""
    lines = page.read_text().splitlines()
    assert [line for line in lines if len(line) > 125 and not line.startswith("|")] == []


def test_the_whole_is_documented() -> None:
    """Each command has its place in a page that operators read."""
    told = written(ROOT / "README.md", ROOT / "docs" / "operating.md")
    groups = {name: c.commands for name, c in root_command().commands.items() if isinstance(c, TyperGroup)}
    single = {name for name in root_command().commands if name not in groups}
    wanted = single | {f"{group} {name}" for group, commands in groups.items() for name in commands}
    assert {name for name in wanted if f"thumbwheel {name}" not in told} == set()
