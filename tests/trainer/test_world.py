"""Two processes that train together find what one finds alone."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.support.tiny_model import make_tiny_model
from trainer.errors import PeerGone, StageFailed
from trainer.methods.policy import SAMPLING
from trainer.world import ALONE, World, heeding_peers, words


def launched(method: str, directory: Path, processes: int, *more: str) -> dict[str, Any]:
    base = directory / "model"
    if not base.exists():
        make_tiny_model(base)
    out = directory / f"out-{processes}"
    out.mkdir(exist_ok=True)
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    module = ["-m", "tests.support.together", method, str(base), str(out), *more]
    subprocess.run(
        [sys.executable, *command, *module], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=240
    )
    return {
        **json.loads((out / "found.json").read_text()),
        "weights": load_file(out / "adapter/adapter_model.safetensors"),
    }


def share_samples(directory: Path) -> None:
    """The first run's samples for the second: who draws a share draws other answers than who draws all."""
    shutil.copytree(directory / "out-1" / "checkpoints", directory / "out-2" / "checkpoints")


@pytest.mark.parametrize("method", ["sft", "dpo", "kto", "grpo", "ppo"])
def test_two_processes_have_the_loss_and_the_weights_of_one(method: str, tmp_path: Path) -> None:
    alone = launched(method, tmp_path, 1)
    if method in SAMPLING:
        share_samples(tmp_path)
    together = launched(method, tmp_path, 2)
    assert (alone["processes"], together["processes"]) == (1, 2)
    assert len(alone["history"]) == len(together["history"]) > 2
    for mine, theirs in zip(together["history"], alone["history"], strict=True):
        for name in {"loss", "grad_norm", "kl", "loss/value_avg", "rewards/margins"} & theirs.keys():
            assert mine[name] == pytest.approx(theirs[name], abs=1e-4, rel=1e-3), name
    for name, theirs in alone["weights"].items():
        assert (together["weights"][name] - theirs).abs().max() < 2e-3


def test_two_processes_each_draw_a_share_of_the_samples(tmp_path: Path) -> None:
    found = launched("rloo", tmp_path, 2)
    assert found["processes"] == 2
    assert all(step["completions/mean_length"] > 0 for step in found["history"])


def test_a_sharded_base_has_the_loss_of_a_whole_one(tmp_path: Path) -> None:
    alone, sharded = launched("dpo", tmp_path, 1), launched("dpo", tmp_path, 2, "--shard")
    losses = [[step["loss"] for step in found["history"]] for found in (alone, sharded)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


def test_work_is_dealt_in_equal_numbers_and_each_piece_counts_once() -> None:
    dealt = [list(World(rank, 3).deal("abcde")) for rank in range(3)]
    assert [len(mine) for mine in dealt] == [2, 2, 2]
    assert sorted(piece for mine in dealt for piece, counts in mine if counts) == list("abcde")


def test_alone_everything_is_one_s_own() -> None:
    assert list(ALONE.deal([1, 2])) == [(1, True), (2, True)]
    assert ALONE.leads


@pytest.mark.parametrize(
    "error",
    [RuntimeError("[third_party/gloo/transport/pair.cc] Connection closed"), torch.distributed.DistNetworkError()],
)
def test_what_fails_for_want_of_another_process_is_told_from_faults_of_ours(error: RuntimeError) -> None:
    with pytest.raises(PeerGone), heeding_peers():
        raise error
    with pytest.raises(StageFailed), heeding_peers():
        raise StageFailed("a model named gloo")


def test_alone_one_s_own_word_is_what_all_are_told() -> None:
    assert ALONE.told("sft", words(str)) == "sft"
    assert ALONE.led(lambda: None, words(None)) is None
    assert ALONE.everyone(7, words(int)) == [7]
