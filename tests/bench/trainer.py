"""Our trainer beside TRL's on the same rows, model, LoRA, batch and precision: `make bench-trainer`.

Every run is a process of its own, and sides take turns. The clock runs over the training loop: reference
log-probabilities and steps, but no import, loading, tokenisation or sampling. Figures are medians over the rounds;
tokens are those of prompts and answers, each row's once per pass, padding never. Memory is the peak from the loaded
model on: resident on a CPU, allocated on a GPU. `loss` is the mean over the steps.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from infra.console import err, print_json, print_table
from tests.bench.trainer_work import METHODS, MIXES, SIZES, Place, Work, make_work

RESULT = Path(".thumbwheel/bench/trainer.json")
SIDES = ("ours", "peer")
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

Run = dict[str, float]


class SideFailed(Exception):
    """A run ended with an error; its own words are on stderr."""


def start(module: str, place: Place, threads: int) -> str:
    """Runs one process to its end; returns the last line that it wrote. Raises SideFailed."""
    environ = {**os.environ, **QUIET, "OMP_NUM_THREADS": str(threads), "HF_HOME": str(place.root / "cache")}
    argv = [sys.executable, "-m", f"tests.bench.{module}", str(place.root), place.key]
    done = subprocess.run(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise SideFailed(f"{module} {place.key}:\n{done.stderr}")
    return (done.stdout.strip().splitlines() or [""])[-1]


def measure(root: Path, works: Sequence[Work], rounds: int) -> dict[str, dict[str, float]]:
    """Each case on its own, so that a shorter run measures the same."""
    found = {}
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=err()) as progress:
        task = progress.add_task("", total=len(works) * (1 + len(SIDES) * rounds))

        def run(module: str, place: Place, work: Work) -> str:
            progress.update(task, description=f"{place.key} {module.removeprefix('trainer_')}")
            line = start(module, place, work.threads)
            progress.advance(task)
            return line

        for work in works:
            place = Place(root, work.key)
            place.write(work)
            run("trainer_rows", place, work)
            runs: dict[str, list[Run]] = {side: [] for side in SIDES}
            for _ in range(rounds):
                for side in SIDES:
                    runs[side].append(json.loads(run(f"trainer_{side}", place, work)))
            found[work.key] = summary(tokens_of(place), runs)
    return found


def tokens_of(place: Place) -> int:
    return int(sum(row["tokens"] for row in place.rows)) * place.work.passes


def summary(tokens: int, runs: dict[str, list[Run]]) -> dict[str, float]:
    """Medians; `ratio` is our tokens a second over the peer's."""
    ours, peer = ({name: statistics.median(run[name] for run in runs[side]) for name in runs[side][0]} for side in SIDES)
    return {
        "ratio": round(peer["seconds"] / ours["seconds"], 3),
        "tokens": tokens,
        **_side("", tokens, ours),
        **_side("peer_", tokens, peer),
        "loss_difference": abs(ours["loss"] - peer["loss"]) / max(abs(peer["loss"]), 1e-9),
    }


def _side(prefix: str, tokens: int, run: Run) -> dict[str, float]:
    figures = {
        "tokens_per_s": round(tokens / run["seconds"], 1),
        "seconds": round(run["seconds"], 4),
        "peak_mb": round(run["peak_mb"], 1),
        "grown_mb": round(run["grown_mb"], 1),
        "loss": run["loss"],
    }
    return {prefix + name: value for name, value in figures.items()}


def machine(device: str, threads: int) -> dict[str, Any]:
    import torch

    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine(),
        "dtype": make_work("sft", "4m", "uniform", device=device, threads=threads, steps=None).dtype,
        "threads": threads,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "peft", "trl")},
    }


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.trainer", description=__doc__)
    parser.add_argument("--methods", type=_among(METHODS), default=list(METHODS))
    parser.add_argument("--sizes", type=_among(tuple(SIZES)), default=["4m", "100m"])
    parser.add_argument("--mixes", type=_among(MIXES), default=list(MIXES))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, help="steps of each run; by default what suits size and device")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch on both sides")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    works = [
        make_work(method, size, mix, device=options.device, threads=options.threads, steps=options.steps)
        for size in options.sizes
        for mix in options.mixes
        for method in options.methods
    ]
    with TemporaryDirectory(prefix="thumbwheel-bench-") as directory:
        methods = measure(Path(directory), works, options.rounds)
    found = {**machine(options.device, options.threads), "rounds": options.rounds, "methods": methods}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    if options.json:
        print_json(found)
    else:
        show(methods)


def show(methods: dict[str, dict[str, float]]) -> None:
    names = ("ratio", "tokens_per_s", "peer_tokens_per_s", "peak_mb", "peer_peak_mb", "loss", "peer_loss")
    heads = ("ratio", "tokens/s", "TRL's", "peak MB", "TRL's", "loss", "TRL's")
    print_table(
        ("", *heads), [(key, *(_short(name, found[name]) for name in names)) for key, found in methods.items()]
    )


def _short(name: str, value: float) -> str:
    digits = {"ratio": ".2f", "loss": ".5f", "peer_loss": ".5f"}.get(name, ",.0f")
    return format(value, digits)


def _among(known: Sequence[str]) -> Any:
    """A list with commas."""

    def read(text: str) -> list[str]:
        named = text.split(",")
        if unknown := [name for name in named if name not in known]:
            raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(known)}")
        return named

    return read


if __name__ == "__main__":
    main()
