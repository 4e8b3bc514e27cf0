"""What this room's commands have in common: their options, their ports, and how they tell what became of a wish."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from infra.console import print_json
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
Force = Annotated[bool, typer.Option("--force", help="Also a version that was rolled back, or blocked by its gates.")]


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


def tell(ports: "Ports", row: "RolloutRow", *, wait: bool, as_json: bool) -> None:
    """Gateways look at once. Exit 0 done or asked for, 1 failed, 2 not finished in time."""
    from infra.registry.rollouts import RolloutState
    from serving.exit_codes import ROLLOUTS
    from serving.listing import as_dict, follow

    ports.bell.ring()
    if wait:
        row = follow(ports.database, row.rollout_id, ports.settings.serving.drain_timeout_s)
    if as_json:
        print_json(as_dict(row))
    else:
        typer.echo(f"{row.kind} of {row.version} is {row.state}" + (f": {row.error}" if row.error else ""))
    raise typer.Exit(ROLLOUTS[RolloutState(row.state)] if wait else 0)
