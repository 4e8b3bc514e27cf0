"""`thumbwheel adapter|gate ...`, `promote`, `rollback`: wishes in the registry, which the controller meets."""

from typing import Annotated

import typer

from infra.console import print_json, print_table
from infra.settings import load_settings
from serving import case_commands, rollout_commands
from serving.command_line import ACTOR, Alias, Force, Json, Limit, Reason, Tenant, Version, Wait, opened, tell
from serving.replica_commands import replica

adapter = typer.Typer(help="Versions: what was published and what became of it.", no_args_is_help=True)
gate = typer.Typer(help="What decides whether a version may answer users.", no_args_is_help=True)

gate.command(name="add-case")(case_commands.add_case)
gate.command(name="cases")(case_commands.list_cases)
gate.command(name="remove-case")(case_commands.remove_case)


def register(root: typer.Typer) -> None:
    """Adds these commands to the root."""
    root.add_typer(adapter, name="adapter")
    root.add_typer(rollout_commands.rollout, name="rollout")
    root.add_typer(gate, name="gate")
    root.add_typer(replica, name="replica")
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


def promote(
    version: Version,
    reason: Reason,
    alias: Alias = "",
    tenant: Tenant = "default",
    force: Force = False,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Make a version the one that answers, past all steps; overrules gates that blocked it or could not decide."""
    from infra.registry import wishes
    from infra.registry.wishes import Wish
    from serving.listing import champion

    with opened() as ports:
        with ports.database.transaction() as session:
            of = wishes.alias_of(session, version, tenant, alias or ports.settings.gateway.alias)
            row = wishes.promote(session, Wish(version, champion(session, of), ACTOR, reason, tenant, force, of))
        tell(ports, row, wait=wait, as_json=as_json)


def rollback(
    reason: Reason,
    to: Annotated[str, typer.Option(help="An earlier version, or `base`; default: what served before.")] = "",
    alias: Alias = "",
    tenant: Tenant = "default",
    force: Force = False,
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Go back to an earlier version at once."""
    from infra.registry import rollouts, wishes
    from infra.registry.wishes import Wish
    from serving.listing import champion

    with opened() as ports:
        chosen = alias or ports.settings.gateway.alias
        with ports.database.transaction() as session:
            target = to or rollouts.previous_version(session, chosen)
            wish = Wish(target, champion(session, chosen), ACTOR, reason, force=force)
            row = wishes.rollback(session, wish, tenant=tenant, alias=chosen)
        tell(ports, row, wait=wait, as_json=as_json)
