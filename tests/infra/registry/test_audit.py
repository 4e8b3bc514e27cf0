"""Who did what and why is written once."""

import pytest
from sqlalchemy import delete, text, update
from sqlalchemy.exc import DatabaseError

from infra.database.engine import Database
from infra.database.tables import AuditRow
from infra.ports import Ports
from infra.registry import audit


@pytest.fixture
def database(ports: Ports) -> Database:
    database = ports.database
    with database.transaction() as session:
        for subject in ("1", "2"):
            audit.record(session, tenant="default", actor="ada", action="cycle.trigger", subject=subject, reason="due")
    return database


def subjects(database: Database, **narrowed: str) -> list[str]:
    with database.reading() as session:
        return [entry.subject for entry in audit.list_entries(session, "default", **narrowed)]  # type: ignore[arg-type]


def test_entries_come_newest_first_and_one_subject_alone(database: Database) -> None:
    assert subjects(database) == ["2", "1"]
    assert subjects(database, subject="1") == ["1"]


def test_another_tenant_sees_none_of_them(database: Database) -> None:
    with database.reading() as session:
        assert audit.list_entries(session, "other") == []


def test_an_entry_cannot_be_changed(database: Database) -> None:
    with pytest.raises(DatabaseError, match="append-only"), database.transaction() as session:
        session.execute(update(AuditRow).values(reason="never happened"))
    assert subjects(database) == ["2", "1"]


def test_an_entry_cannot_be_removed_not_even_by_plain_sql(database: Database) -> None:
    with pytest.raises(DatabaseError, match="append-only"), database.transaction() as session:
        session.execute(text("DELETE FROM audit WHERE subject = '1'"))
    with pytest.raises(DatabaseError, match="append-only"), database.transaction() as session:
        session.execute(delete(AuditRow))
    assert subjects(database) == ["2", "1"]
