"""`thumbwheel infra`: prepares a state directory or a database without starting anything."""

from typing import Annotated

import typer

from infra.settings import load_settings

app = typer.Typer(help="State directory and database: init, migrate.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command()
def init(as_json: Json = False) -> None:
    """Make folders, keys, secrets and the database schema. `up` does it too."""
    from infra.console import out, print_json
    from infra.home import prepare

    settings = load_settings()
    keys = prepare(settings)
    if as_json:
        return print_json({"home": str(settings.home), "keys": str(keys)})
    return out().print(f"home  {settings.home}\nkeys  {keys}", markup=False)


@app.command()
def migrate(
    revision: Annotated[str, typer.Argument(help="Up to which revision.")] = "head", as_json: Json = False
) -> None:
    """Bring the database to this code's schema. Safe to run again."""
    from infra.console import out, print_json
    from infra.database.migrate import current_revision
    from infra.database.migrate import migrate as upgrade
    from infra.ports import Ports

    settings = load_settings()
    settings.home.mkdir(parents=True, exist_ok=True)
    ports = Ports(settings)
    try:
        before = current_revision(ports.database)
        upgrade(ports.database, revision)
        after = current_revision(ports.database)
    finally:
        ports.close()
    if as_json:
        return print_json({"before": before, "after": after})
    return out().print(f"the database is at schema {after}" + (f", was {before}" * (before != after)), markup=False)
