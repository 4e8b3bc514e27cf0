"""What the commands of this room share: their options, their connections, and how they say that something is wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from infra.console import err
from infra.settings import SettingsError, load_settings

if TYPE_CHECKING:  # heavy imports wait until a command is called
    from infra.ports import Ports

TENANT = "default"

Tenant = Annotated[str, typer.Option(help="Whose data.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@contextmanager
def opened() -> "Iterator[Ports]":
    """The ports of this command; what stands in the way is said in one line."""
    from infra.database.schema import SchemaMismatch, check_schema
    from infra.ports import Ports
    from infra.registry.errors import NotFound

    try:
        ports = Ports(load_settings())
        try:
            check_schema(ports.database)
            yield ports
        finally:
            ports.close()
    except (NotFound, SchemaMismatch) as error:
        fail(str(error))
    except SettingsError as error:
        fail(str(error), code=2)


def fail(reason: str, *, code: int = 1) -> NoReturn:
    err().print(reason, markup=False)
    raise typer.Exit(code)
