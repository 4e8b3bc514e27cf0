"""Whether a database fits this code, asked without Alembic: importing that takes half of what a start may take."""

import re
from pathlib import Path

import structlog
from sqlalchemy import inspect, text
from sqlalchemy.exc import OperationalError
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from infra.database.engine import Database

MIGRATIONS = Path(__file__).parent / "migrations"
PATIENCE_S = 60.0  # with a server that restarts, or is too busy to let anybody in
RETRY_S = 0.5
REVISION = re.compile(r"^(revision|down_revision)\b[^=]*= *[\"']([^\"']+)[\"']", re.MULTILINE)

log = structlog.get_logger()


class SchemaMismatch(RuntimeError):
    """The database is older or newer than this code. The message names the command that mends it."""


def check_schema(database: Database) -> None:
    """Raises SchemaMismatch unless the database is at this code's head."""
    found, wanted = stored_revision(database), head_revision()
    if found != wanted:
        raise SchemaMismatch(
            f"the database is at schema {found}, this code needs {wanted}: run `thumbwheel infra migrate`"
        )


def await_schema(database: Database, *, patience_s: float = PATIENCE_S) -> None:
    """For a process that starts: a database that cannot be reached is waited for, since dying of it would only make
    the start longer. Raises SchemaMismatch, or OperationalError in the end."""
    patience = Retrying(
        retry=retry_if_exception_type(OperationalError),
        stop=stop_after_delay(patience_s),
        wait=wait_fixed(RETRY_S),
        before_sleep=_tell,
        reraise=True,
    )
    patience(check_schema, database)


def _tell(state: RetryCallState) -> None:
    error = state.outcome and state.outcome.exception()
    log.warning("database_awaited", reason=str(getattr(error, "orig", error)))


def stored_revision(database: Database) -> str | None:
    with database.engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def head_revision() -> str | None:
    """The migration that no other one builds upon."""
    found = [dict(REVISION.findall(path.read_text())) for path in (MIGRATIONS / "versions").glob("*.py")]
    built_upon = {entry.get("down_revision") for entry in found}
    return next((entry["revision"] for entry in found if entry["revision"] not in built_upon), None)
