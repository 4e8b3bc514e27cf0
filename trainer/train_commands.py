"""`thumbwheel train ...`: one method by itself, without services. torch is loaded inside the commands."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.console import err, print_json
from infra.settings import load_settings
from trainer.errors import TrainerError
from trainer.overrides import effective, parse_assignments

if TYPE_CHECKING:
    from trainer.progress import Progress

LINE_EVERY_S = 2.0

train = typer.Typer(help="Train one thing by itself, from files, without services.", no_args_is_help=True)

Base = Annotated[Path, typer.Option(help="Directory of a Hugging Face causal LM with a chat template.")]
Dataset = Annotated[Path, typer.Option(help="A Parquet or JSONL file in TRL's format, or a dataset's directory.")]
Out = Annotated[Path, typer.Option(help="The directory to write.")]
Reward = Annotated[Path, typer.Option(help="A reward model's directory, as `train reward` writes it.")]
Assignments = Annotated[list[str] | None, typer.Option("--set", help="A trainer setting, name=value.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@train.command()
def scratch(
    corpus: Annotated[Path, typer.Option(help='JSONL of {"messages": [...]}; answers are what is learnt.')],
    out: Out,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps; default: what suits the demo.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and order.")] = 0,
    width: Annotated[int, typer.Option(min=64, help="Hidden size, a multiple of 64.")] = 256,
    layers: Annotated[int, typer.Option(min=1, help="Transformer layers.")] = 4,
    vocab: Annotated[int, typer.Option(min=300, help="Most tokens of the vocabulary.")] = 4096,
    json: Json = False,
) -> None:
    """A base model of a few million parameters from nothing, in a minute or two."""
    from trainer.scratch import STEPS, build

    with reporting("base") as progress:
        found = build(
            corpus, out, steps=steps or STEPS, seed=seed, width=width, layers=layers, vocab=vocab, on_progress=progress
        )
    _done(out, {"out": str(out), "metrics": found}, json=json)


@train.command()
def sft(base: Base, dataset: Dataset, out: Out, assignments: Assignments = None, json: Json = False) -> None:
    """A LoRA that imitates demonstrations (`prompt` and `completion`, or `messages`)."""
    _train("sft", base, dataset, out, assignments, json=json)


@train.command()
def reward(base: Base, dataset: Dataset, out: Out, assignments: Assignments = None, json: Json = False) -> None:
    """A reward model from preference pairs (`prompt`, `chosen`, `rejected`), measured on held-out raters."""
    _train("reward", base, dataset, out, assignments, json=json)


@train.command()
def ppo(
    base: Base, dataset: Dataset, out: Out, reward: Reward, assignments: Assignments = None, json: Json = False
) -> None:
    """A LoRA policy beside a value model, against a reward model, on `prompt` rows; samples come from memory."""
    _train("ppo", base, dataset, out, assignments, reward, json=json)


@train.command()
def grpo(
    base: Base, dataset: Dataset, out: Out, reward: Reward, assignments: Assignments = None, json: Json = False
) -> None:
    """A LoRA policy against a reward model, each sample beside its prompt's others; samples come from memory."""
    _train("grpo", base, dataset, out, assignments, reward, json=json)


@train.command()
def rloo(
    base: Base, dataset: Dataset, out: Out, reward: Reward, assignments: Assignments = None, json: Json = False
) -> None:
    """As grpo, by REINFORCE with each sample's baseline from the others; samples come from memory."""
    _train("rloo", base, dataset, out, assignments, reward, json=json)


@train.command()
def dpo(base: Base, dataset: Dataset, out: Out, assignments: Assignments = None, json: Json = False) -> None:
    """A LoRA policy straight from preference pairs (`prompt`, `chosen`, `rejected`), without a reward model."""
    _train("dpo", base, dataset, out, assignments, json=json)


@train.command()
def kto(base: Base, dataset: Dataset, out: Out, assignments: Assignments = None, json: Json = False) -> None:
    """A LoRA policy straight from lone thumbs (`prompt`, `completion`, `label`), without a reward model."""
    _train("kto", base, dataset, out, assignments, json=json)


def _train(
    method: str,
    base: Path,
    dataset: Path,
    out: Path,
    assignments: list[str] | None,
    reward: Path | None = None,
    *,
    json: bool,
) -> None:
    from trainer.standalone import Job
    from trainer.standalone import train as run

    policy = [f"method={method}"] if method not in ("sft", "reward") else []
    settings = effective(load_settings().trainer, parse_assignments([*(assignments or []), *policy]))
    with reporting(method) as progress:
        found = run(Job(method, base, dataset, out, settings, reward), progress)
    _done(out, found, json=json)


@contextmanager
def reporting(title: str) -> Iterator["Progress"]:
    """The pace and the last metrics: a bar on a terminal, else a line now and then. A TrainerError is exit 1."""
    try:
        with _bar(title) if err().is_terminal else nullcontext(_lines(title)) as report:
            yield report
    except TrainerError as error:
        err().print(str(error), markup=False)
        raise typer.Exit(1) from None


@contextmanager
def _bar(title: str) -> Iterator["Progress"]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=err()) as bars:
        task = bars.add_task("")

        def report(step: int, total: int, metrics: dict[str, float]) -> None:
            bars.update(task, completed=step, total=total, description=_newest(metrics))

        yield report


def _lines(title: str) -> "Progress":
    """For a log or a program that reads along: `base 120/260 loss=1.9`, every other second and at the end."""
    last = -LINE_EVERY_S

    def report(step: int, total: int, metrics: dict[str, float]) -> None:
        nonlocal last
        if step == total or time.monotonic() - last >= LINE_EVERY_S:
            last = time.monotonic()
            typer.echo(f"{title} {step}/{total} {_newest(metrics)}", err=True)

    return report


def _newest(metrics: dict[str, float]) -> str:
    return " ".join(f"{name}={value:.3g}" for name, value in list(metrics.items())[:2])


def _done(out: Path, found: dict[str, Any], *, json: bool) -> None:
    """Of several processes the first one speaks."""
    if not found:
        return
    if json:
        print_json(found)
        return
    shown = [f"{name}={text}" for name, value in found["metrics"].items() if (text := _figure(value))]
    typer.echo(f"wrote {out}: {' '.join(shown)}")
    if "steps" in found:
        typer.echo(_told(found))


def _told(found: dict[str, Any]) -> str:
    rows, seconds = found["rows"], found["seconds"]
    reasons = ", ".join(f"{count} {reason}" for reason, count in rows["left_out"].items())
    return (
        f"{rows['used']} rows{f' (left out: {reasons})' if reasons else ''}, {found['steps']} steps in"
        f" {seconds['train']:.1f} s after {seconds['load']:.1f} s of loading, {found['tokens_per_s']:.0f} tokens/s"
    )


def _figure(value: object) -> str | None:
    """A number, or an interval's value and ends; None for what is no single figure."""
    if isinstance(value, dict) and "value" in value:
        return f"{value['value']:.4g} ({value['lo']:.4g} to {value['hi']:.4g})"
    return f"{value:.4g}" if isinstance(value, int | float) else None
