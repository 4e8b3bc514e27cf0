"""The commands of the stack as a whole: start, stop, look, check. The others come from their rooms."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from infra.settings import describe_settings, load_settings

if TYPE_CHECKING:  # heavy imports wait until a command is called
    from infra.stack import StackStatus
    from infra.up import Plan

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def register(root: typer.Typer) -> None:
    """Adds these commands to the root."""
    from infra.check_commands import app as checks
    from infra.key_commands import app as key
    from infra.services.commands import app as services
    from infra.setup_commands import app as infra

    for command in (up, down, status, logs, doctor, settings):
        root.command()(command)
    root.add_typer(checks, name="checks")
    root.add_typer(key, name="key")
    root.add_typer(infra, name="infra")
    root.add_typer(services, name="services")


def up(
    model: Annotated[
        Path | None, typer.Option(help="Directory of a Hugging Face causal LM; default: the last one.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port of the gateway; 0 picks a free one.")] = None,
    profile: Annotated[
        Literal["embedded", "full"] | None, typer.Option(help="Parts to run on; default: the last ones.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when all is ready.")] = False,
    as_json: Json = False,
) -> None:
    """Start gateway, engine, feedback, trainer and controller, and restart what dies."""
    from infra.stack import StackState
    from infra.start_view import StartView
    from infra.up import detach as start_detached
    from infra.up import make_plan, supervise

    plan, view = make_plan(model, port, profile), StartView()
    if detach:
        ended = start_detached(plan, view)
        view.close()
        _refuse_failed(ended)
        return _show_ready(plan, ended, as_json)
    shown = False

    def observe(now: "StackStatus") -> None:
        nonlocal shown
        view(now)
        if now.state is StackState.READY and not shown:
            shown = True
            _show_ready(plan, now, as_json)

    _refuse_failed(supervise(plan, observe))
    return None


def down(as_json: Json = False) -> None:
    """Drain and stop all; also clears what a killed supervisor left behind."""
    from infra.console import out, print_json
    from infra.up import down as stop

    home = load_settings().home
    began = time.monotonic()
    stopped = stop(home)
    if as_json:
        return print_json({"stopped": stopped, "seconds": round(time.monotonic() - began, 2)})
    return out().print("stopped" if stopped else f"nothing runs in {home}")


def status(as_json: Json = False) -> None:
    """Who runs, who answers, and the work under way. Exit code 1 where nothing runs."""
    from infra.console import print_json
    from infra.status import describe

    told = describe(load_settings())
    if as_json:
        print_json(told)
    else:
        _show_status(told)
    if told["state"] in ("stopped", "failed"):
        raise typer.Exit(1)


def logs(
    process: Annotated[str | None, typer.Argument(help="gateway, feedback, trainer, controller, replica-0 …")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of each log's last lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written from now on.")] = False,
    as_json: Json = False,
) -> None:
    """Print what the processes have written."""
    from infra.console import out, print_json_line
    from infra.log_view import follow as follow_files
    from infra.log_view import last_lines, log_files

    files = log_files(load_settings().home, process)
    width = max(len(path.stem) for path in files)

    def show(found: Any) -> None:
        if as_json:
            print_json_line(asdict(found))
        else:
            out().out(found.line if process else f"{found.process:<{width}}  {found.line}", highlight=False)

    for found in last_lines(files, lines):
        show(found)
    if follow:
        for found in follow_files(files):
            show(found)


def doctor(
    model: Annotated[Path | None, typer.Option(help="Directory of the base model to check.")] = None,
    as_json: Json = False,
) -> None:
    """Check what a start needs and what it runs on, from model to clock. Exit code 1 where something is amiss."""
    from infra.console import print_json, print_table
    from infra.preflight import findings, state_findings
    from infra.up import make_plan

    settings = make_plan(model).settings
    found = [*findings(settings), *state_findings(settings)]
    if as_json:
        print_json([asdict(finding) for finding in found])
    else:
        rows = [(f.check, "amiss" if f.problem else "ok", f.problem or f.detail) for f in found]
        print_table(("check", "verdict", "what"), rows)
    if any(finding.problem for finding in found):
        raise typer.Exit(1)


def settings(as_json: Json = False) -> None:
    """Every setting with its value, where that came from, its default and what it does."""
    from infra.console import print_json, print_table

    found = list(describe_settings(load_settings()))
    if as_json:
        return print_json([asdict(setting) for setting in found])
    rows = [(s.name, s.value, s.source, s.default, s.description) for s in found]
    return print_table(("setting", "value", "source", "default", "what it does"), rows)


def _refuse_failed(ended: "StackStatus") -> None:
    from infra.console import err
    from infra.stack import StackState

    if ended.state is StackState.FAILED:
        err().print(f"thumbwheel: {ended.problem}", markup=False)
        raise typer.Exit(ended.exit_code)


def _show_ready(plan: "Plan", ready: "StackStatus", as_json: bool) -> None:
    from infra.console import out, print_json, print_table
    from infra.home import key_file
    from infra.status import log_file

    keys = key_file(plan.home)
    if as_json:
        addresses = {
            name: {"pid": p.pid, "address": p.address, "state": p.state} for name, p in ready.processes.items()
        }
        return print_json({"processes": addresses, "keys": str(keys)})
    rows = [(name, p.address, p.pid, log_file(plan.home, name)) for name, p in ready.processes.items()]
    print_table(("process", "address", "pid", "log"), rows)
    return out().print(f"keys     {keys}\nclients  {ready.processes['gateway'].address}/v1", markup=False)


def _show_status(told: dict[str, Any]) -> None:
    from infra.console import out, print_table

    rows = [(name, p["state"], p["address"], p["pid"], p["restarts"]) for name, p in told["processes"].items()]
    print_table(("process", "state", "address", "pid", "restarts"), rows, title=f"{told['state']}  {told['home']}")
    for name, figures in told["figures"].items():
        out().print(f"{name}: " + ", ".join(f"{what} {value:,.10g}" for what, value in figures.items()), markup=False)
    for alias, version in told.get("champion", {}).items():
        out().print(f"{alias} answers with {version}", markup=False)
    for cycle in told.get("cycles", {}).get("running", []):
        out().print(f"cycle {cycle['cycle']} of {cycle['alias']}: {cycle['state']}", markup=False)
    for rollout in told.get("rollouts", {}).get("running", []):
        out().print(f"{rollout['kind']} to {rollout['version']}: {rollout['state']}", markup=False)
