"""A process that starts waits for its database for a while."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from infra.database.engine import open_database, sqlite_url
from infra.database.migrate import migrate
from infra.database.schema import SchemaMismatch, await_schema

TIMEOUT_S = 60


def test_a_database_that_cannot_be_reached_yet_is_waited_for(tmp_path: Path) -> None:
    aside, late = tmp_path / "aside", tmp_path / "late"
    aside.mkdir()
    database = open_database(sqlite_url(late / "state.db"))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(await_schema, database)
        made = open_database(sqlite_url(aside / "state.db"))
        migrate(made)
        made.close()
        assert not waiting.done()
        aside.rename(late)
        waiting.result(TIMEOUT_S)
    database.close()


def test_a_database_that_stays_away_is_waited_for_no_longer_than_that(tmp_path: Path) -> None:
    database = open_database(sqlite_url(tmp_path / "nowhere" / "state.db"))
    with pytest.raises(OperationalError):
        await_schema(database, patience_s=0)


def test_another_schema_is_not_waited_for(tmp_path: Path) -> None:
    database = open_database(sqlite_url(tmp_path / "state.db"))
    with pytest.raises(SchemaMismatch, match="thumbwheel infra migrate"):
        await_schema(database)
    database.close()
