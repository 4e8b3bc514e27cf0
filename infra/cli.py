"""The one command, `thumbwheel`. Each room brings its own commands, found through entry points.

Exit codes: 0 done or passed, 1 failed, 2 used wrongly or inconclusive. What a person can mend is said in one line.
"""

import os
import sys
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import Annotated

import typer

from infra.settings import HOME_VARIABLE, SettingsError

GROUP = "thumbwheel.commands"
FAILED, USAGE = 1, 2


def main() -> None:
    """The console script: turns errors that a person can mend into one clear line and an exit code."""
    try:
        build()()
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        print(f"thumbwheel: {explanation(error)}", file=sys.stderr)  # noqa: T201 the command's own voice
        sys.exit(code)


def build() -> typer.Typer:
    """The root command with every room's commands on it."""
    root = typer.Typer(
        help="The feedback loop of a deployed assistant: answers, votes, retraining, hot swap, rollback.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    root.callback()(_options)
    for entry_point in sorted(entry_points(group=GROUP), key=lambda found: found.name):
        _register(root, entry_point)
    return root


def exit_code(error: Exception) -> int | None:
    """1 or 2 for what a person can mend, None for a fault of ours, which deserves its traceback."""
    from sqlalchemy.exc import OperationalError

    from infra.base_model import NotAModel
    from infra.database.schema import SchemaMismatch
    from infra.eventlog.base import LogUnavailable
    from infra.keystore.base import KeyringAway
    from infra.log_view import NoSuchLog
    from infra.preflight import Unfit
    from infra.registry.errors import RegistryError
    from infra.services.base import ServiceError
    from infra.supervisor import AlreadyRunning

    usage = (SettingsError, NotAModel, NoSuchLog, Unfit, AlreadyRunning, SchemaMismatch, OperationalError, ServiceError)
    if isinstance(error, usage):
        return USAGE
    return FAILED if isinstance(error, RegistryError | LogUnavailable | KeyringAway) else None


def explanation(error: Exception) -> str:
    """What to print instead of a traceback."""
    from sqlalchemy.exc import OperationalError

    if isinstance(error, OperationalError):
        return f"the database cannot be used ({error.orig}): start Thumbwheel once with `thumbwheel up`"
    return str(error)


def _register(root: typer.Typer, entry_point: EntryPoint) -> None:
    """An image may leave a whole room out; its commands are then not there, and nothing else changes."""
    try:
        register = entry_point.load()
    except ModuleNotFoundError as error:
        if not entry_point.module.startswith(f"{error.name}."):
            raise
        return
    register(root)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("thumbwheel"))
        raise typer.Exit


def _options(
    home: Annotated[
        Path | None, typer.Option(help="The state directory; also THUMBWHEEL_HOME. Default: .thumbwheel")
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """The feedback loop of a deployed assistant: answers, votes, retraining, hot swap, rollback."""
    from infra.logs import log_as_command

    log_as_command()
    if home is not None:
        os.environ[HOME_VARIABLE] = str(home.absolute())


if __name__ == "__main__":
    main()
