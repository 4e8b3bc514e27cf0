"""What each method learns: `python -m tests.goldbed.learning --seeds 0 1 2 --methods sft ppo --json FILE`.

Every method starts from the SFT adapter and sees the same votes. Gold is measured on things that no vote and no
training was about.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tests.goldbed.bed import START, Bed, make_bed, policy_context
from tests.goldbed.measuring import Worth, gain, measure
from trainer.history import Trained
from trainer.methods.policy import SAMPLING, policy_method
from trainer.model import attach_fresh, copy_adapter, remove_adapter

METHODS = ("sft", "ppo", "grpo", "rloo", "dpo", "kto")
BARE = "bare"  # an adapter that changes nothing: the base itself
OF_METHODS: dict[str, dict[str, Any]] = {
    "ppo": {"policy_steps": 40, "policy_learning_rate": 4e-4, "policy_beta": 0.02, "policy_prompts": 48},
    "grpo": {"policy_steps": 40, "policy_learning_rate": 6e-4, "policy_beta": 0.02},
    "rloo": {"policy_steps": 40, "policy_learning_rate": 6e-4, "policy_beta": 0.02},
    "dpo": {"preference_learning_rate": 5e-4, "preference_epochs": 1},
    "kto": {"preference_learning_rate": 2e-4, "preference_epochs": 1},
}


@dataclass(frozen=True, slots=True)
class Row:
    """SFT's gain is over the bare base, every other's over SFT. KL is to the SFT start."""

    method: str
    seed: int
    gold: float
    gain: float
    lo: float
    hi: float
    kl: float
    length: float
    seconds: float
    stopped: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--out", type=Path, default=Path(".thumbwheel/goldbed"))
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    found = [row for seed in wanted.seeds for row in learn(wanted.out, seed, wanted.methods)]
    (wanted.json or wanted.out / "learning.json").write_text(json.dumps([asdict(row) for row in found], indent=1))
    sys.stdout.write(table(found) + "\n")


def learn(directory: Path, seed: int, methods: Sequence[str]) -> list[Row]:
    bed = make_bed(directory, seed)
    start = measure(bed.base, START)
    return [
        _of_sft(bed, seed, start) if method == "sft" else _of_policy(bed, directory, seed, method, start)
        for method in methods
    ]


def train(bed: Bed, directory: Path, seed: int, method: str, **wanted: Any) -> Trained:
    """The adapter named after the method is on the base afterwards."""
    copy_adapter(bed.base, START, method)
    held_out = {"held_out": bed.held_out} if method in SAMPLING else {}
    settings = {**OF_METHODS[method], **wanted}
    return policy_method(method)(policy_context(bed, directory, method, seed, method=method, **held_out, **settings))


def table(rows: Sequence[Row]) -> str:
    lines = ["| method | seed | gold | gain over the start [95%] | KL, nats an answer | tokens | seconds |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: (METHODS.index(row.method), row.seed)):
        lines.append(
            f"| {row.method} | {row.seed} | {row.gold:.2f} | {row.gain:+.2f} [{row.lo:+.2f}, {row.hi:+.2f}] |"
            f" {row.kl:.2f} | {row.length:.1f} | {row.seconds:.0f} |"
        )
    return "\n".join(lines)


def _of_sft(bed: Bed, seed: int, start: Worth) -> Row:
    attach_fresh(bed.base, BARE, policy_context(bed, Path(), BARE, seed).settings, seed)
    row = _row("sft", seed, start, measure(bed.base, BARE), bed.sft_seconds)
    remove_adapter(bed.base, BARE)
    return row


def _of_policy(bed: Bed, directory: Path, seed: int, method: str, start: Worth) -> Row:
    began = time.monotonic()
    result = train(bed, directory, seed, method)
    seconds = time.monotonic() - began
    row = _row(method, seed, measure(bed.base, method), start, seconds, result.stopped or "")
    remove_adapter(bed.base, method)
    sys.stderr.write(f"{row}\n")
    return row


def _row(method: str, seed: int, worth: Worth, other: Worth, seconds: float, stopped: str = "") -> Row:
    found = gain(worth, other)
    return Row(
        method, seed, worth.gold, found.value, found.lo, found.hi, worth.kl, worth.length, round(seconds, 1), stopped
    )


if __name__ == "__main__":
    main()
