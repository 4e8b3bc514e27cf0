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
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

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

Run = dict[str, Any]


class SideFailed(Exception):
    """A run ended with an error; its own words are on stderr."""


def start(module: str, place: Place, threads: int) -> str:
    """Runs one process to its end; returns the last line that it wrote. Raises SideFailed."""
    environ = {**os.environ, **QUIET, "OMP_NUM_THREADS": str(threads), "HF_HOME": str(place.root / "cache")}
    argv = [sys.executable, "-m", f"tests.bench.{module}", str(place.root), place.key]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True)
    if done.returncode:
        raise SideFailed(f"{module} {place.key}:\n{done.stderr}")
    return (done.stdout.strip().splitlines() or [""])[-1]


def measure(root: Path, works: Sequence[Work], rounds: int) -> Iterator[tuple[str, Run]]:
    """Case after case, each with its summary."""
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=err()) as progress:
        task = progress.add_task("", total=len(works) * (1 + len(SIDES) * rounds))
        for work in works:
            place = Place(root, work.key)
            place.write(work)
            yield work.key, case(place, work, rounds, partial(_run, progress, task))


def case(place: Place, work: Work, rounds: int, run: Callable[[str, Place], str]) -> Run:
    """Sides take turns, ours first: it notes in which order it asked for prompts."""
    run("trainer_rows", place)
    modules = dict(zip(SIDES, ("trainer_ours", peer_of(work)), strict=True))
    runs: dict[str, list[Run]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side, module in modules.items():
            runs[side].append(json.loads(run(module, place)))
    return summary(tokens_of(place), runs)


def _run(progress: Progress, task: TaskID, module: str, place: Place) -> str:
    progress.update(task, description=f"{place.key} {module.removeprefix('trainer_')}")
    line = start(module, place, place.work.threads)
    progress.advance(task)
    return line


def peer_of(work: Work) -> str:
    """TRL has no PPO any more: it is held against the sum of its parts."""
    return "trainer_parts" if work.method == "ppo" else "trainer_peer"


def tokens_of(place: Place) -> int:
    return int(sum(row["tokens"] for row in place.rows)) * place.work.passes


def summary(tokens: int, runs: dict[str, list[Run]]) -> Run:
    """Medians; `ratio` is our tokens a second over the peer's, `cpu_ratio` the same of the processes' own time."""
    ours, peer = (_medians(runs[side]) for side in SIDES)
    parts = {"parts_s": _medians([run["parts"] for run in runs["peer"]])} if "parts" in runs["peer"][0] else {}
    return {
        "ratio": round(peer["seconds"] / ours["seconds"], 3),
        "cpu_ratio": round(peer["cpu_s"] / ours["cpu_s"], 3),
        "tokens": tokens,
        **_side("", tokens, ours),
        **_side("peer_", tokens, peer),
        "loss_difference": abs(ours["loss"] - peer["loss"]) / max(abs(peer["loss"]), 1e-9),
        **parts,
    }


def _medians(runs: Sequence[Run]) -> Run:
    return {name: statistics.median(run[name] for run in runs) for name in runs[0] if name != "parts"}


def _side(prefix: str, tokens: int, run: Run) -> Run:
    figures: Run = {
        "tokens_per_s": round(tokens / run["seconds"], 1),
        "seconds": round(run["seconds"], 4),
        "cpu_s": round(run["cpu_s"], 4),
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
    methods: dict[str, Run] = {}
    found = {**machine(options.device, options.threads), "rounds": options.rounds, "methods": methods}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="thumbwheel-bench-") as directory:
        for key, figures in measure(Path(directory), works, options.rounds):
            methods[key] = figures
            options.out.write_text(json.dumps(found, indent=1) + "\n")  # what was measured stays, whatever comes
            err().print(f"{key}: {figures['ratio']} times the peer's tokens a second")
    if options.json:
        print_json(found)
    else:
        show(methods)


def show(methods: dict[str, Run]) -> None:
    names = ("ratio", "cpu_ratio", "tokens_per_s", "peer_tokens_per_s", "peak_mb", "peer_peak_mb", "loss", "peer_loss")
    heads = ("ratio", "of CPU time", "tokens/s", "peer's", "peak MB", "peer's", "loss", "peer's")
    print_table(("", *heads), [(key, *(_short(name, found[name]) for name in names)) for key, found in methods.items()])


def _short(name: str, value: float) -> str:
    digits = {"ratio": ".2f", "cpu_ratio": ".2f", "loss": ".5f", "peer_loss": ".5f"}.get(name, ",.0f")
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
