"""`thumbwheel adapter|rollout|gate ...`, `promote`, `rollback`: wishes in the registry, which the controller meets."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from infra.console import err, print_json, print_table
from infra.settings import load_settings

if TYPE_CHECKING:  # heavy imports wait until a command is called
    from infra.database.tables import RolloutRow
    from infra.ports import Ports

ACTOR = "cli"

Tenant = Annotated[str, typer.Option(help="Whose.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Alias = Annotated[str, typer.Option(help="Which assistant; default: the gateway's.")]
Limit = Annotated[int, typer.Option(min=1, help="Most to show.")]
Version = Annotated[str, typer.Argument(help="As `adapter list` shows it.")]
Reason = Annotated[str, typer.Option(help="Why; goes into the audit.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return once the old version has drained; exit 1 if it fails.")]

adapter = typer.Typer(help="Versions: what was published and what became of it.", no_args_is_help=True)
rollout = typer.Typer(help="Changes of the version that answers.", no_args_is_help=True)
gate = typer.Typer(help="What decides whether a version may answer users.", no_args_is_help=True)


def register(root: typer.Typer) -> None:
    """Adds these commands to the root."""
    root.add_typer(adapter, name="adapter")
    root.add_typer(rollout, name="rollout")
    root.add_typer(gate, name="gate")
    root.command()(promote)
    root.command()(rollback)


@adapter.command(name="list")
def list_adapters(alias: Alias = "", tenant: Tenant = "default", limit: Limit = 20, as_json: Json = False) -> None:
    """Newest first."""
    from infra.registry import adapters
    from serving.listing import as_dict

    with opened() as ports, ports.database.reading() as session:
        rows = adapters.list_adapters(session, tenant, alias=alias or None, limit=limit)
    if as_json:
        return print_json([as_dict(row) for row in rows])
    columns = ("version", "state", "cycle", "created", "why")
    return print_table(columns, [(r.version, r.state, r.cycle_id, r.created_at, r.reason) for r in rows])


@adapter.command(name="show")
def show_adapter(version: Version, tenant: Tenant = "default", as_json: Json = False) -> None:
    """Everything about one version: its manifest, its gates, its state."""
    from infra.registry import adapters
    from serving.listing import as_dict

    with opened() as ports, ports.database.reading() as session:
        row = adapters.get(session, version, tenant)
    if as_json:
        return print_json(as_dict(row))
    fields = {**as_dict(row), **row.manifest}
    return print_table(("field", "value"), [(k, v) for k, v in fields.items() if k not in ("manifest", "gates") and v])


@adapter.command(name="check")
def check_adapter(version: Version, tenant: Tenant = "default", as_json: Json = False) -> None:
    """Validate a version's files against the base, as is done before each load. Exit 1 with the reason if refused."""
    from serving.checking import refusal

    with opened() as ports:
        reason = refusal(ports, version, tenant)
    if as_json:
        print_json({"version": version, "valid": reason is None, "reason": reason})
    else:
        typer.echo(f"{version} is valid" if reason is None else f"{version} is refused: {reason}")
    raise typer.Exit(0 if reason is None else 1)


@gate.command(name="list")
def list_gates(as_json: Json = False) -> None:
    """Every gate in the order of a report: whether it blocks under these settings, and its threshold."""
    from serving.listing import listed_gates

    found = listed_gates(load_settings())
    if as_json:
        return print_json(found)
    columns = ("gate", "", "threshold", "from")
    return print_table(columns, [(g["name"], g["state"], g["threshold"], g["from"]) for g in found])


@gate.command(name="check")
def check_gates(version: Version, tenant: Tenant = "default", as_json: Json = False) -> None:
    """The gates' report of a version; made from its evidence where it has none. Exit 0 pass, 1 fail, 2 undecided."""
    from serving.checking import gate_report
    from serving.exit_codes import GATES
    from serving.listing import show_report

    with opened() as ports:
        report = gate_report(ports, version, tenant)
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        show_report(report)
    raise typer.Exit(GATES[report.verdict])


@rollout.command(name="list")
def list_rollouts(alias: Alias = "", tenant: Tenant = "default", limit: Limit = 20, as_json: Json = False) -> None:
    """Newest first."""
    from infra.registry import rollouts
    from serving.listing import as_dict

    with opened() as ports, ports.database.reading() as session:
        rows = rollouts.list_rollouts(session, tenant, alias=alias or None, limit=limit)
    if as_json:
        return print_json([as_dict(row) for row in rows])
    columns = ("rollout", "kind", "version", "from", "state", "requested", "actor", "why")
    cells = [
        (r.rollout_id, r.kind, r.version, r.from_version, r.state, r.requested_at, r.actor, r.error or r.reason)
        for r in rows
    ]
    return print_table(columns, cells)


@rollout.command(name="status")
def rollout_status(as_json: Json = False) -> None:
    """Who answers now: versions by alias, and what each replica has verified. Exit 2 while nobody can answer."""
    from infra.contracts.routing import ReplicaState
    from infra.registry import fleet
    from serving.exit_codes import UNDECIDED
    from serving.listing import show_table

    with opened() as ports, ports.database.reading() as session:
        table = fleet.routing_table(session)
    if as_json:
        print_json(table.model_dump(mode="json") if table else None)
    elif table:
        show_table(table)
    answers = table is not None and any(replica.state is ReplicaState.READY for replica in table.replicas)
    if not answers:
        err().print("no replica may answer users yet")
    raise typer.Exit(0 if answers else UNDECIDED)


@rollout.command(name="abort")
def abort(
    rollout_id: Annotated[str, typer.Argument(help="As `rollout list` shows it.")],
    reason: Reason,
    tenant: Tenant = "default",
    as_json: Json = False,
) -> None:
    """End a rollout before its flip; afterwards only a rollback helps."""
    from infra.registry import rollouts

    with opened() as ports:
        with ports.database.transaction() as session:
            row = rollouts.request_abort(session, rollout_id, tenant=tenant, actor=ACTOR, reason=reason)
        _tell(ports, row, wait=False, as_json=as_json)


def promote(
    version: Version, reason: Reason, tenant: Tenant = "default", wait: Wait = False, as_json: Json = False
) -> None:
    """Make a version the one that answers; overrules gates that blocked it or could not decide."""
    from infra.registry import adapters, rollouts
    from serving.listing import champion

    with opened() as ports:
        with ports.database.transaction() as session:
            row = rollouts.request_promotion(
                session,
                version=version,
                actor=ACTOR,
                reason=reason,
                tenant=tenant,
                champion=champion(session, adapters.get(session, version, tenant).alias),
            )
        _tell(ports, row, wait=wait, as_json=as_json)


def rollback(
    reason: Reason,
    to: Annotated[str, typer.Option(help="An earlier version, or `base`; default: what served before.")] = "",
    alias: Alias = "",
    tenant: Tenant = "default",
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Go back to an earlier version at once."""
    from infra.registry import rollouts
    from serving.listing import champion

    with opened() as ports:
        chosen = alias or ports.settings.gateway.alias
        with ports.database.transaction() as session:
            row = rollouts.request_rollback(
                session,
                tenant=tenant,
                alias=chosen,
                version=to or rollouts.previous_version(session, chosen),
                actor=ACTOR,
                reason=reason,
                champion=champion(session, chosen),
            )
        _tell(ports, row, wait=wait, as_json=as_json)


@contextmanager
def opened() -> "Iterator[Ports]":
    """The ports of this command; raises SchemaMismatch where the product was never started."""
    from infra.database.schema import check_schema
    from infra.ports import Ports

    ports = Ports(load_settings())
    try:
        check_schema(ports.database)
        yield ports
    finally:
        ports.close()


def _tell(ports: "Ports", row: "RolloutRow", *, wait: bool, as_json: bool) -> None:
    """Exit 0 done or asked for, 1 failed, 2 not finished in time."""
    from infra.registry.rollouts import RolloutState
    from serving.exit_codes import ROLLOUTS
    from serving.listing import as_dict, follow

    if wait:
        row = follow(ports.database, row.rollout_id, ports.settings.serving.drain_timeout_s)
    if as_json:
        print_json(as_dict(row))
    else:
        typer.echo(f"{row.kind} of {row.version} is {row.state}" + (f": {row.error}" if row.error else ""))
    raise typer.Exit(ROLLOUTS[RolloutState(row.state)] if wait else 0)
