"""What a command of this room works on."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from infra.settings import load_settings

if TYPE_CHECKING:  # heavy imports wait until a command is called
    from infra.ports import Ports


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
