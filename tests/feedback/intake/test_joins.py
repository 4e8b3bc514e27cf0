"""What is done to the database for a batch reads what the batch touches: SQLite, which knows nothing of tables that
were never analysed, must not begin with all that is stored."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from feedback.housekeeping import Housekeeping
from feedback.intake.joins import as_written
from infra.database.engine import Database
from infra.settings import Settings
from tests.support.feedback import Room
from tests.support.people import MIA, mias_day, others_day

STORED = {"inferences", "choices", "votes", "vote_events", "vote_targets"}
NAMED = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE) (\w+) (?:AS )?(\w+)")
Plans = dict[str, list[str]]


@contextmanager
def planned(database: Database) -> Iterator[Plans]:
    """By statement, how SQLite goes about it."""
    found: Plans = {}

    def explain(connection: Any, _cursor: Any, statement: str, values: Any, _context: Any, many: bool) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE", "SELECT")) and statement not in found:
            raw = connection.connection.driver_connection
            rows = raw.execute(f"EXPLAIN QUERY PLAN {statement}", values[0] if many else values).fetchall()
            found[statement] = [detail for *_, detail in rows]

    event.listen(database.engine, "before_cursor_execute", explain)
    yield found
    event.remove(database.engine, "before_cursor_execute", explain)


def tables(statement: str) -> Mapping[str, str]:
    """By their names in it."""
    return {table: table for table in STORED} | {
        name: table for table, name in NAMED.findall(" ".join(statement.split()))
    }


def whole_reads(plans: Plans) -> list[str]:
    """Steps that go through a table, or through all that a tenant has in it."""
    return [
        f"{step}: {' '.join(statement.split())[:120]}"
        for statement, steps in plans.items()
        for step in steps
        if step.startswith("SCAN") or step.endswith("(tenant=?)")
        if tables(statement).get(step.split()[1]) in STORED
    ]


def test_storing_a_batch_reads_what_it_touches(room: Room) -> None:
    room.append([*mias_day(), *others_day()])
    with planned(room.database) as plans:
        room.consume()
    assert len(plans) > 20
    assert whole_reads(plans) == []


def test_erasing_a_person_reads_what_is_theirs(room: Room) -> None:
    room.append([*mias_day(), *others_day()])
    room.consume()
    room.erase(MIA)
    with planned(room.database) as plans:
        room.consume()
    assert any(statement.startswith("UPDATE inferences SET stored") for statement in plans)
    assert whole_reads(plans) == []


def test_housekeeping_writes_to_what_is_due(room: Room) -> None:
    room.append([*mias_day(), *others_day()])
    room.consume()
    with planned(room.database) as plans:
        Housekeeping(room.database, room.eventlog, room.artifacts, room.metrics, Settings()).turn()
    written = {statement: steps for statement, steps in plans.items() if not statement.startswith("SELECT")}
    assert any(statement.startswith("DELETE FROM vote_events") for statement in written)
    assert whole_reads(written) == []


def test_a_join_is_kept_in_its_order_on_sqlite_and_left_to_the_planner_elsewhere(room: Room) -> None:
    query = "SELECT 1 FROM a JOIN b ON b.x = a.x LEFT JOIN c ON c.x = b.x"
    with room.database.reading() as session:
        written = as_written(session, query)
    if room.database.engine.dialect.name == "sqlite":
        assert written == "SELECT 1 FROM a CROSS JOIN b ON b.x = a.x LEFT JOIN c ON c.x = b.x"
    else:
        assert written == query
