"""`thumbwheel replica list|drain|undrain`: which engines there are, and which of them are to be left alone."""

from typing import TYPE_CHECKING, Annotated

import typer

from infra.console import print_json, print_table
from serving.opening import opened

if TYPE_CHECKING:  # heavy imports wait until a command is called
    from infra.contracts.routing import Replica

ACTOR = "cli"

Name = Annotated[str, typer.Argument(help="As `replica list` shows it.")]
Reason = Annotated[str, typer.Option(help="Why; goes into the audit.")]
Tenant = Annotated[str, typer.Option(help="Whose audit says so.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

replica = typer.Typer(help="Engines that answer: own ones, and those that were found.", no_args_is_help=True)


@replica.command(name="list")
def list_replicas(as_json: Json = False) -> None:
    """All of them, with what each has verified and how many requests it works on; `-` where it does not answer."""
    import asyncio

    from infra.registry import fleet
    from serving.engine import requests_of

    with opened() as ports:
        with ports.database.reading() as session:
            found = fleet.replicas(session)
        requests = asyncio.run(requests_of([row.address for row in found], ports.engine_key))
    if as_json:
        rows = zip(found, requests, strict=True)
        return print_json([{**row.model_dump(mode="json"), "requests": count} for row, count in rows])
    columns = ("replica", "state", "address", "found", "requests", "base", "verified")
    return print_table(columns, [_cells(row, count) for row, count in zip(found, requests, strict=True)])


@replica.command(name="drain")
def drain(name: Name, reason: Reason, tenant: Tenant = "default", as_json: Json = False) -> None:
    """Send nothing new there; what it answers just now goes on. It is still watched, but no rollout waits for it."""
    _wish(name, drain=True, reason=reason, tenant=tenant, as_json=as_json)


@replica.command(name="undrain")
def undrain(name: Name, reason: Reason, tenant: Tenant = "default", as_json: Json = False) -> None:
    """Use it again, as soon as everything that is live has been verified on it."""
    _wish(name, drain=False, reason=reason, tenant=tenant, as_json=as_json)


def _wish(name: str, *, drain: bool, reason: str, tenant: str, as_json: bool) -> None:
    from infra.registry import fleet

    with opened() as ports, ports.database.transaction() as session:
        fleet.set_drain(session, name, drain=drain, actor=ACTOR, reason=reason, tenant=tenant)
    if as_json:
        return print_json({"replica": name, "drain": drain})
    return typer.echo(f"{name} is to {'be drained' if drain else 'answer again'}")


def _cells(row: "Replica", requests: int | None) -> tuple[object, ...]:
    count = "-" if requests is None else requests
    found = "yes" if row.discovered else ""
    return row.name, row.state, row.address, found, count, row.base_revision or "unknown", ", ".join(row.versions)
