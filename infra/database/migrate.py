"""Brings a database to this code's schema, and refuses to start on any other."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from infra.database.engine import Database

MIGRATIONS = Path(__file__).parent / "migrations"


class SchemaMismatch(RuntimeError):
    """The database is older or newer than this code. The message names the command that mends it."""


def alembic_config(database: Database) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["engine"] = database.engine
    return config


def migrate(database: Database, revision: str = "head") -> None:
    """Upgrades to `revision`; does nothing where the database is there already."""
    command.upgrade(alembic_config(database), revision)


def downgrade(database: Database, revision: str) -> None:
    command.downgrade(alembic_config(database), revision)


def current_revision(database: Database) -> str | None:
    with database.engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head_revision(database: Database) -> str | None:
    return ScriptDirectory.from_config(alembic_config(database)).get_current_head()


def check_schema(database: Database) -> None:
    """Raises SchemaMismatch unless the database is at this code's head."""
    found, wanted = current_revision(database), head_revision(database)
    if found != wanted:
        raise SchemaMismatch(
            f"the database is at schema {found}, this code needs {wanted}: run `thumbwheel infra migrate`"
        )
