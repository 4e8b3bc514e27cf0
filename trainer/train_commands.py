"""`thumbwheel train ...`: the stages by themselves, on files, with no service running."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from infra.console import err, print_json, print_table

train = typer.Typer(help="Train on files, with nothing else running.", no_args_is_help=True)

Seed = Annotated[int, typer.Option(min=0, help="Of every random choice.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Out = Annotated[Path, typer.Option(help="Directory to write.")]
BaseDirectory = Annotated[Path, typer.Option("--base", help="Directory of a Hugging Face causal LM.")]
Dataset = Annotated[Path, typer.Option(help="Directory of a dataset, as `dataset export` writes it.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads.")]


@train.callback()
def group() -> None:
    """Each command loads torch only once it is called."""


@train.command()
def scratch(
    corpus: Annotated[Path, typer.Option(help='JSONL, one {"messages": [...]} a line.')],
    out: Out,
    steps: Annotated[int, typer.Option(min=1, help="Optimizer steps.")] = 170,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """A tiny base model and its tokenizer from a corpus of conversations."""
    from trainer.scratch import build

    with Bar("base") as moved:
        metrics = build(corpus, out, steps=steps, seed=seed, on_progress=moved)
    show({"directory": str(out), **metrics}, json=json)


@train.command()
def sft(
    dataset: Dataset, base: BaseDirectory, out: Out, seed: Seed = 0, threads: Threads = 2, json: Json = False
) -> None:
    """A LoRA on the dataset's demonstrations; the loss is on the answers only."""
    import torch

    from infra.settings import load_settings
    from trainer.data import demonstrations, read_table
    from trainer.methods import sft as method
    from trainer.model import attach_adapter, load_base, save_adapter

    torch.set_num_threads(threads)
    settings, loaded = load_settings().trainer, load_base(base)
    rows = demonstrations(read_table(dataset, "demonstrations", "train"))
    attach_adapter(loaded, "sft", rank=settings.lora_rank, alpha=settings.lora_alpha, seed=seed)
    with Bar("sft") as moved:
        metrics = method.train(loaded, rows, adapter="sft", settings=settings, seed=seed, progress=moved)
    show({"directory": str(out), "sha256": save_adapter(loaded, "sft", out), **metrics}, json=json)


class Bar:
    """A progress bar with the time that is left; inside, call it as trainer.progress.Progress."""

    def __init__(self, name: str) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=err())
        self._task = self._bars.add_task(name, total=None)

    def __enter__(self) -> "Bar":
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def __call__(self, step: int, total: int, metrics: dict[str, float]) -> None:
        loss = f" loss {metrics['loss']:.3f}" if "loss" in metrics else ""
        self._bars.update(self._task, completed=step, total=total, description=f"training{loss}")


def show(result: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(result)
    else:
        print_table(("field", "value"), list(result.items()))
