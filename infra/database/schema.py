"""Whether a database fits this code, asked without Alembic: importing that takes half of what a start may take."""

import re
from pathlib import Path

from sqlalchemy import inspect, text

from infra.database.engine import Database

MIGRATIONS = Path(__file__).parent / "migrations"
REVISION = re.compile(r"^(revision|down_revision)\b[^=]*= *[\"']([^\"']+)[\"']", re.MULTILINE)


class SchemaMismatch(RuntimeError):
    """The database is older or newer than this code. The message names the command that mends it."""


def check_schema(database: Database) -> None:
    """Raises SchemaMismatch unless the database is at this code's head."""
    found, wanted = stored_revision(database), head_revision()
    if found != wanted:
        raise SchemaMismatch(
            f"the database is at schema {found}, this code needs {wanted}: run `thumbwheel infra migrate`"
        )


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
