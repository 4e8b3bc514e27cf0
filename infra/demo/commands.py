"""`thumbwheel demo`: an assistant gets better from votes, start to finish, on this machine."""

import asyncio
import signal
import sys
from collections.abc import Coroutine
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

T = TypeVar("T")
WIDTH = 150  # where nobody says how wide it is: the summary in full
NEEDS = ("openai", "plotly")


def register(root: typer.Typer) -> None:
    root.command()(demo)


def demo(
    seed: Annotated[int, typer.Option(help="Of the base, the raters and the training.")] = 0,
    votes: Annotated[
        Literal["taste", "coin"], typer.Option(help="coin: the control in which every vote is a coin flip.")
    ] = "taste",
    cycles: Annotated[int, typer.Option(min=1, help="Turns of the loop.")] = 3,
    method: Annotated[str, typer.Option(help="How the policy is trained.")] = "grpo",
    size: Annotated[
        Literal["full", "smoke"], typer.Option(help="smoke: every stage once and tiny, for tests.")
    ] = "full",
    profile: Annotated[
        Literal["embedded", "full"], typer.Option(help="full: on Kafka, PostgreSQL and Redis of its own.")
    ] = "embedded",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the stack running.")] = False,
    directory: Annotated[Path, typer.Option(help="Where everything is written.")] = Path(".thumbwheel/demo"),
    setup_s: Annotated[float | None, typer.Option(help="What the installation took: goes into the report.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json.")] = False,
) -> None:
    """Watch an assistant get better from votes: builds a base, lets raters vote, trains, swaps and reports."""
    if missing := [name for name in NEEDS if find_spec(name) is None]:
        typer.echo(f"thumbwheel: {', '.join(missing)} missing: install thumbwheel[demo]", err=True)
        raise typer.Exit(2)
    from rich.console import Console  # heavy imports wait until the command is called

    from infra.demo.agenda import agenda
    from infra.demo.plan import plan_for
    from infra.demo.play import Options, play
    from infra.demo.report import summary, write_report
    from infra.demo.screen import Screen
    from infra.demo.shell import CommandFailed
    from infra.demo.stack import NotOurs
    from infra.demo.telling import tell

    options = Options(
        seed=seed,
        votes=votes,
        cycles=cycles,
        method=method,
        profile=profile,
        keep=keep,
        directory=directory,
        setup_s=setup_s,
    )
    plan, console = plan_for(size), Console(stderr=True, width=None if sys.stderr.isatty() else WIDTH)
    try:
        story, examination = asyncio.run(_until_ended(play(options, plan, Screen(agenda(plan, cycles), console))))
    except asyncio.CancelledError:
        console.print("ended by SIGTERM; what was started is stopped")
        raise typer.Exit(128 + signal.SIGTERM) from None
    except (CommandFailed, NotOurs) as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        raise typer.Exit(1 if isinstance(error, CommandFailed) else 2) from None
    results = tell(story, examination)
    page = write_report(results, directory)
    console.print(summary(results))
    console.print(f"report: {page}" + (f"\ngateway: {story.address}, still running" if keep else ""))
    if as_json:
        sys.stdout.write(results.model_dump_json(indent=2) + "\n")
    if results.failed_requests or results.mixed_version_answers:
        raise typer.Exit(1)


async def _until_ended(run: Coroutine[Any, Any, T]) -> T:
    """SIGTERM cancels the run, as Ctrl-C does by itself, so that it stops what it started."""
    task = asyncio.ensure_future(run)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task
