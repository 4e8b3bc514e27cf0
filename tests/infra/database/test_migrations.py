from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from feedback.cells import bucket_of
from infra.database.engine import Database, open_database, sqlite_url
from infra.database.migrate import SchemaMismatch, check_schema, current_revision, downgrade, head_revision, migrate
from infra.database.tables import Base
from infra.registry import cycles
from tests.support.servers import fresh_database

OLD_VOTE = """
INSERT INTO vote_events (tenant, event_id, vote_id, kind, name, retracted, rater, source, consent_train,
  consent_explicit, occurred_at, received_at, log_partition, log_offset, key_id, sealed)
VALUES ('default', :event_id, :vote_id, 'thumbs', 'thumbs', false, :rater, 'human', true, false,
  '2026-03-10 12:00:00', '2026-03-10 12:00:00', 0, 0, 'key', '')
"""


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    on_server = request.param == "postgres"
    url = fresh_database(request.getfixturevalue("postgres")) if on_server else sqlite_url(tmp_path / "state.db")
    opened = open_database(url)
    yield opened
    opened.close()


def test_migrations_reach_exactly_the_schema_of_the_models(database: Database) -> None:
    import feedback.tables  # noqa: F401 (its tables are on the same Base)

    migrate(database)
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_an_unmigrated_database_is_refused_with_the_command_that_mends_it(database: Database) -> None:
    with pytest.raises(SchemaMismatch, match="thumbwheel infra migrate"):
        check_schema(database)


def test_a_migrated_database_is_accepted(database: Database) -> None:
    migrate(database)
    check_schema(database)


def test_an_older_schema_is_refused(database: Database) -> None:
    migrate(database, "0001")
    assert current_revision(database) != head_revision(database)
    with pytest.raises(SchemaMismatch):
        check_schema(database)


def test_the_registry_keeps_its_rows_when_later_migrations_go_down_and_up(database: Database) -> None:
    migrate(database)
    with database.transaction() as session:
        cycles.trigger(session, tenant="default", alias="assistant", actor="operator")
    downgrade(database, "0001")
    migrate(database)
    with database.reading() as session:
        assert cycles.get(session, "1").alias == "assistant"


def test_events_that_were_stored_before_there_were_cells_are_given_theirs(database: Database) -> None:
    migrate(database, "0003")
    named, nameless = {"rater": "rater-1"}, {"rater": None}
    with database.engine.begin() as connection:
        for at, event in enumerate((named, nameless)):
            connection.execute(text(OLD_VOTE), {"event_id": f"event-{at}", "vote_id": f"vote-{at}", **event})
    migrate(database)
    with database.reading() as session:
        found = session.execute(text("SELECT vote_id, bucket FROM vote_events ORDER BY vote_id")).all()
    assert [tuple(row) for row in found] == [("vote-0", bucket_of("rater-1")), ("vote-1", bucket_of("vote-1"))]
    downgrade(database, "0003")
    migrate(database)
    with database.reading() as session:
        assert session.execute(text("SELECT count(*) FROM vote_events")).scalar() == 2


def test_going_all_the_way_down_leaves_no_table_behind(database: Database) -> None:
    migrate(database)
    downgrade(database, "base")
    assert set(inspect(database.engine).get_table_names()) <= {"alembic_version"}


def test_a_transaction_rolls_back_on_any_error(database: Database) -> None:
    migrate(database)

    def half_done() -> None:
        with database.transaction() as session:
            cycles.trigger(session, tenant="default", alias="assistant", actor="operator")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        half_done()
    with database.reading() as session:
        assert session.execute(text("SELECT count(*) FROM cycles")).scalar() == 0
