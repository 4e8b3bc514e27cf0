"""`thumbwheel train`, killed with SIGKILL at random moments and run again until it is done, writes the same bytes."""

import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from infra.base_model import file_sha256
from tests.support.datasets import make_tables, write_dataset
from tests.support.tiny_model import make_tiny_model
from trainer.metrics_file import read_metrics

KILLS = int(os.environ.get("KILLS", "1"))
METHODS = ("sft", "reward", "dpo", "kto", "ppo", "grpo", "rloo")
SETTINGS = {
    "device": "cpu", "checkpoint_s": 0, "lora_rank": 4, "reward_rank": 4, "max_length": 128, "sft_epochs": 4,
    "reward_epochs": 3, "preference_epochs": 3, "policy_steps": 10, "policy_prompts": 4, "policy_samples": 4,
    "policy_minibatch": 8, "policy_max_new_tokens": 12, "policy_learning_rate": 1e-3, "preference_learning_rate": 1e-3,
}  # fmt: skip


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a dataset and a reward model."""
    directory = tmp_path_factory.mktemp("material")
    make_tiny_model(directory / "base")
    tables = make_tables(pairs=96, demonstrations=64)
    tables["unpaired"] = {"train": [thumb for row in tables["preference"]["train"] for thumb in thumbs(row)]}
    write_dataset(directory / "dataset", tables)
    run(directory, "reward", directory / "reward")
    return directory


def thumbs(row: dict[str, Any]) -> list[dict[str, Any]]:
    """Up for the chosen answer, down for the other."""
    shared = {name: row[name] for name in ("prompt", "prompt_id", "rater") if name in row}
    return [{**shared, "completion": row[side], "label": side == "chosen"} for side in ("chosen", "rejected")]


def command(material: Path, method: str, out: Path) -> list[str]:
    words = ["-m", "infra.cli", "train", method, "--base", str(material / "base"), "--out", str(out)]
    words += ["--dataset", str(material / "dataset")]
    words += ["--reward", str(material / "reward")] if method in ("ppo", "grpo", "rloo") else []
    assignments = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    return [sys.executable, *words, *assignments]


def run(material: Path, method: str, out: Path) -> None:
    subprocess.run(command(material, method, out), check=True, capture_output=True, timeout=240)


def killed(material: Path, method: str, out: Path, after: int) -> bool:
    """Whether it was still running once `after` steps were told; from then on it is not."""
    process = subprocess.Popen(
        command(material, method, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
        steps = read_metrics(out / "metrics.jsonl")
        if steps and steps[-1]["step"] >= after:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return process.wait() == -signal.SIGKILL
    return False


@pytest.mark.training
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("method", METHODS)
def test_what_is_killed_again_and_again_ends_with_the_same_bytes(material: Path, method: str, tmp_path: Path) -> None:
    run(material, method, tmp_path / "straight")
    steps = len(read_metrics(tmp_path / "straight" / "metrics.jsonl"))
    moments = sorted(random.Random(method).choices(range(1, steps), k=KILLS))
    kills = sum(killed(material, method, tmp_path / "killed", after) for after in moments)
    run(material, method, tmp_path / "killed")
    assert kills > 0
    hashes = [file_sha256(tmp_path / name / "adapter_model.safetensors") for name in ("straight", "killed")]
    assert hashes[0] == hashes[1]
    told = [step["step"] for step in read_metrics(tmp_path / "killed" / "metrics.jsonl")]
    assert told == list(range(1, steps + 1))
