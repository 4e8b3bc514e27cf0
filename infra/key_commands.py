"""`thumbwheel key`: API keys by name. A key is shown once, when it is made; only its hash is kept."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from infra.settings import load_settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from infra.registry.keys import Scope

app = typer.Typer(help="API keys: create, list, revoke.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Tenant = Annotated[str, typer.Option(help="Whom the key speaks for.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What to call it, to revoke it by.")],
    scope: Annotated[list[str] | None, typer.Option(help="chat, feedback, raters or admin; repeat for more.")] = None,
    tenant: Tenant = "default",
    as_json: Json = False,
) -> None:
    """Make a key and print it, this once. Default scopes: chat and feedback."""
    from infra.console import out, print_json
    from infra.identity import new_key
    from infra.registry import keys

    scopes = [_scope(word) for word in scope or ("chat", "feedback")]
    key = new_key()
    with _transaction() as session:
        keys.add(session, key, tenant=tenant, name=name, scopes=scopes, actor=_actor())
    if as_json:
        return print_json({"name": name, "tenant": tenant, "scopes": [str(s) for s in scopes], "key": key})
    return out().out(key, highlight=False)


@app.command(name="list")
def list_keys(tenant: Tenant = "default", as_json: Json = False) -> None:
    """The keys of a tenant, without the keys themselves."""
    from infra.console import print_json, print_table
    from infra.registry import keys

    with _transaction() as session:
        rows = [(r.name, r.scopes, r.created_at, r.revoked_at) for r in keys.list_keys(session, tenant)]
    columns = ("name", "scopes", "created_at", "revoked_at")
    if as_json:
        return print_json([dict(zip(columns, row, strict=True)) for row in rows])
    return print_table(columns, [(name, " ".join(scopes), *times) for name, scopes, *times in rows])


@app.command()
def revoke(
    name: Annotated[str, typer.Argument(help="The key's name; every live key of that name ends.")],
    tenant: Tenant = "default",
    as_json: Json = False,
) -> None:
    """End a key. Gateways stop taking it within seconds."""
    from infra.console import out, print_json
    from infra.registry import keys

    with _transaction() as session:
        keys.revoke(session, tenant=tenant, name=name, actor=_actor())
    return print_json({"revoked": name}) if as_json else out().print(f"revoked {name}", markup=False)


@contextmanager
def _transaction() -> "Iterator[Session]":
    from infra.database.schema import check_schema
    from infra.ports import Ports

    ports = Ports(load_settings())
    try:
        check_schema(ports.database)
        with ports.database.transaction() as session:
            yield session
    finally:
        ports.close()


def _scope(word: str) -> "Scope":
    from infra.registry.keys import Scope

    try:
        return Scope(word)
    except ValueError:
        raise typer.BadParameter(f"{word} is none of {', '.join(Scope)}") from None


def _actor() -> str:
    """Who ran the command, for the audit."""
    return f"cli:{getpass.getuser()}"
