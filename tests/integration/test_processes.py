"""Each process that is started by itself, as a deployment does it, says what only a person can mend and ends with 2."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.model_files import make_model_files

PROCESSES = {
    "gateway": ["gateway.main"],
    "feedback": ["feedback.main"],
    "trainer": ["trainer.worker"],
    "controller": ["serving.main"],
    "replica": ["serving.replica", "--name", "replica-0"],
}


@pytest.mark.parametrize("module", PROCESSES.values(), ids=list(PROCESSES))
def test_a_bad_setting_stops_a_process_with_its_name(tmp_path: Path, module: list[str]) -> None:
    done = start(module, tmp_path, THUMBWHEEL_GATEWAY__PROT="1")
    assert done.returncode == 2, done.stderr
    assert done.stderr.rstrip().endswith("gateway.prot: there is no such setting (see `thumbwheel settings`)")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("process", ["gateway", "feedback", "trainer", "controller"])
def test_a_database_of_another_schema_is_named_with_what_to_do(tmp_path: Path, process: str) -> None:
    done = start(PROCESSES[process], tmp_path, THUMBWHEEL_SERVING__MODEL=str(make_model_files(tmp_path / "model")))
    assert done.returncode == 2, done.stderr
    assert "thumbwheel infra migrate" in done.stderr
    assert "Traceback" not in done.stderr


def start(module: list[str], home: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", *module],
        env={**os.environ, "THUMBWHEEL_HOME": str(home), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
