"""The demo in its smallest size: every stage once, with the real engine, under the real commands."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from infra.processes import marked

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("demo") / "demo"
    arguments = ["demo", "--size", "smoke", "--cycles", "1", "--seed", "1", "--directory", str(directory)]
    done = subprocess.run(
        [sys.executable, "-m", "infra.cli", *arguments],
        capture_output=True,
        text=True,
        env=dict(os.environ),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture(scope="module")
def report(directory: Path) -> dict[str, Any]:
    return dict(json.loads((directory / "report.json").read_text()))


def test_no_request_fails_and_no_answer_mixes_versions(report: dict[str, Any]) -> None:
    assert (report["failed_requests"], report["mixed_version_answers"]) == (0, 0)
    assert report["requests"] > 100


def test_every_acknowledged_vote_is_stored(report: dict[str, Any]) -> None:
    assert report["votes_stored"] == report["votes_acknowledged"] >= 120
    assert report["votes_refused"] == 0


def test_the_cycle_s_version_is_swapped_in_within_a_second(report: dict[str, Any]) -> None:
    (cycle,) = report["cycles"]
    assert cycle["state"] == "accepted"
    assert cycle["served"] == cycle["version"] == report["lineage"][0]["version"]
    assert 0 <= cycle["swap_ms"] <= 1000
    assert cycle["pairs"] > 50


def test_rolling_back_and_forward_takes_less_than_a_second_each(report: dict[str, Any]) -> None:
    assert 0 <= report["rollback_ms"] <= 1000
    assert 0 <= report["rollforward_ms"] <= 1000


def test_the_page_is_written_and_nothing_is_left_running(directory: Path) -> None:
    assert (directory / "report.html").stat().st_size > 1_000_000
    assert marked(directory) == []
