"""PostgreSQL knows of its tables while they begin to grow."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from feedback.intake import repository
from infra.database.engine import Database, open_database
from infra.database.migrate import migrate
from infra.services.postgres import Postgres
from tests.support.events import make_comparison, make_inference
from tests.support.feedback import make_answered, make_vote
from tests.support.servers import fresh_database

pytestmark = pytest.mark.usefixtures("postgres")


@pytest.fixture
def database(postgres: Postgres) -> Iterator[Database]:
    made = open_database(fresh_database(postgres))
    migrate(made)
    yield made
    made.close()


def rows_known(database: Database, table: str) -> float:
    """As the planner sees it; -1 where nobody has looked yet."""
    with database.reading() as session:
        return float(session.scalar(text("SELECT reltuples FROM pg_class WHERE relname = :table"), {"table": table}))


def put(database: Database, start: int, count: int) -> None:
    answered = [make_answered(make_inference(f"r{at}")) for at in range(start, start + count)]
    vote = make_vote(make_comparison(f"r{start}", f"r{start + 1}"), f"vote {start}")
    with database.concurrent() as session:
        repository.store(session, answered, [vote])


def test_the_first_batch_makes_its_tables_known(database: Database) -> None:
    assert rows_known(database, "inferences") == -1
    put(database, 0, 50)
    assert rows_known(database, "inferences") == 50
    assert rows_known(database, "votes") == 1


def test_a_table_is_looked_at_again_only_when_it_has_doubled(database: Database) -> None:
    put(database, 0, 50)
    put(database, 50, 2)
    assert rows_known(database, "inferences") == 50
    put(database, 100, 200)
    assert rows_known(database, "inferences") == 252
