"""The commands of this room: `thumbwheel dataset`, `deadletters`, `judge`, `rater` and `trace`."""

import typer

from feedback.dataset_commands import dataset
from feedback.deadletter_commands import deadletters
from feedback.judge_commands import judge
from feedback.rater_commands import rater
from feedback.trace_commands import trace


def register(root: typer.Typer) -> None:
    root.add_typer(dataset, name="dataset")
    root.add_typer(deadletters, name="deadletters")
    root.add_typer(judge, name="judge")
    root.add_typer(rater, name="rater")
    root.command()(trace)
