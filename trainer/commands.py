"""`thumbwheel cycle ...`: asks for cycles and looks at them; what trains is the worker. `train ...` is beside this."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.console import err, print_json, print_table
from infra.settings import SettingsError, load_settings
from trainer import train_commands
from trainer.overrides import parse_assignments, validated

if TYPE_CHECKING:  # heavy imports wait until a command is called
    from infra.database.tables import CycleRow
    from infra.ports import Ports

ACTOR = "cli"
EXIT_CODES = {  # of `CycleState`s
    "accepted": 0,
    "gating": 0,
    "awaiting_person": 2,  # inconclusive: a person is asked
    "blocked": 1,
    "failed": 1,
    "cancelled": 1,
}

Tenant = Annotated[str, typer.Option(help="Whose cycles.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
CycleId = Annotated[str, typer.Argument(help="The cycle's number, as `cycle list` shows it.")]
Assignments = Annotated[list[str] | None, typer.Option("--set", help="A trainer setting, name=value.")]
Reason = Annotated[str, typer.Option(help="Why; goes into the audit.")]

cycle = typer.Typer(help="One turn of the loop: snapshot, training, evidence, gates.", no_args_is_help=True)


def register(root: typer.Typer) -> None:
    root.add_typer(cycle, name="cycle")
    root.add_typer(train_commands.train, name="train")


@cycle.command()
def trigger(
    alias: Annotated[str, typer.Option(help="Which assistant; default: the gateway's.")] = "",
    tenant: Tenant = "default",
    reason: Reason = "",
    assignments: Assignments = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Show progress; exit 0 accepted, 1 failed, 2 undecided.")
    ] = False,
    json: Json = False,
) -> None:
    """Starts a cycle, unless one of this alias is running."""
    from infra.registry import cycles

    with opened() as ports:
        overrides = validated(ports.settings.trainer, parse_assignments(assignments or []))
        with ports.database.transaction() as session:
            row = cycles.trigger(
                session, tenant=tenant, alias=alias or ports.settings.gateway.alias, actor=ACTOR, reason=reason,
                settings=overrides,
            )  # fmt: skip
        if wait:
            _wait(ports, row.cycle_id, tenant, json=json)
        _show(row, json=json, news=f"cycle {row.cycle_id} is queued")


@cycle.command(name="list")
def list_(
    alias: Annotated[str | None, typer.Option(help="Only this assistant's.")] = None,
    tenant: Tenant = "default",
    limit: Annotated[int, typer.Option(min=1, help="Most to show.")] = 20,
    json: Json = False,
) -> None:
    """Cycles, newest first."""
    from infra.registry import cycles
    from trainer.watching import as_json

    with opened() as ports, ports.database.reading() as session:
        rows = cycles.list_cycles(session, tenant, alias=alias, limit=limit)
    if json:
        print_json([as_json(row) for row in rows])
        return
    columns = ("cycle", "alias", "state", "dataset", "version", "started", "why")
    print_table(columns, [_cells(row) for row in rows])


@cycle.command()
def show(cycle_id: CycleId, tenant: Tenant = "default", json: Json = False) -> None:
    """Everything about one cycle."""
    from infra.registry import cycles
    from trainer.watching import as_json

    with opened() as ports, ports.database.reading() as session:
        row = cycles.get(session, cycle_id, tenant)
    if json:
        print_json(as_json(row))
        return
    print_table(
        ("field", "value"), [(name, value) for name, value in as_json(row).items() if value not in (None, {}, [])]
    )


@cycle.command()
def watch(cycle_id: CycleId, tenant: Tenant = "default", json: Json = False) -> None:
    """Follows a cycle to its end; exit 0 accepted, 1 failed, 2 undecided."""
    with opened() as ports:
        _wait(ports, cycle_id, tenant, json=json)


@cycle.command()
def report(
    cycle_id: CycleId,
    tenant: Tenant = "default",
    out: Annotated[Path | None, typer.Option(help="Write the page there.")] = None,
    json: Json = False,
) -> None:
    """A cycle's report, with the answers before and after that nobody has had erased."""
    from infra.artifacts import MissingArtifact
    from infra.registry import cycles
    from trainer.report import read_report, read_samples, render

    with opened() as ports:
        with ports.database.reading() as session:
            cycles.get(session, cycle_id, tenant)
        try:
            found = read_report(ports.artifacts, cycle_id)
            samples = read_samples(ports.artifacts, found)
        except MissingArtifact as error:
            raise SettingsError(f"cycle {cycle_id} has no report: {error}") from None
        shown = render(ports.artifacts, found, samples)
    target = out or Path(f"cycle-{cycle_id}.html")
    if json:
        print_json({**found, "samples": [sample.model_dump() for sample in samples]})
    else:
        target.write_text(shown)
        typer.echo(f"wrote {target}")


@cycle.command()
def cancel(cycle_id: CycleId, tenant: Tenant = "default", reason: Reason = "", json: Json = False) -> None:
    """Ends a cycle within seconds."""
    from infra.registry import cycles

    with opened() as ports:
        with ports.database.transaction() as session:
            row = cycles.request_cancel(session, cycle_id, tenant=tenant, actor=ACTOR, reason=reason)
        _show(row, json=json, news=f"cycle {cycle_id} is to be cancelled")


@contextmanager
def opened() -> "Iterator[Ports]":
    """The ports of this command; raises SchemaMismatch where the product was never started."""
    from infra.database.schema import check_schema
    from infra.logs import configure_logging
    from infra.ports import Ports

    settings = load_settings()
    configure_logging(settings.infra, process="cli")  # to standard error: what is printed is the answer
    ports = Ports(settings)
    try:
        check_schema(ports.database)
        yield ports
    finally:
        ports.close()


def _wait(ports: "Ports", cycle_id: str, tenant: str, *, json: bool) -> None:
    from trainer.watching import as_json, follow

    row = follow(ports.database, cycle_id, tenant, err())
    if json:
        print_json(as_json(row))
    raise typer.Exit(EXIT_CODES[row.state])


def _show(row: "CycleRow", *, json: bool, news: str) -> None:
    if json:
        from trainer.watching import as_json

        print_json(as_json(row))
    else:
        typer.echo(news)


def _cells(row: "CycleRow") -> tuple[object, ...]:
    from trainer.watching import is_final

    state = (
        row.state
        if is_final(row) or not row.progress
        else f"{row.state} {row.progress['step']}/{row.progress['total']}"
    )
    return row.cycle_id, row.alias, state, row.dataset_id, row.version, f"{row.created_at:%Y-%m-%d %H:%M}", row.reason
