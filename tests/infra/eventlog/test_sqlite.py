import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from infra.eventlog.base import LogUnavailable
from infra.eventlog.sqlite import SqliteEventLog, SqliteProducer, connect, transaction

TOPIC = "thumbwheel.feedback.v1"


@pytest.fixture
def producer(tmp_path: Path) -> Iterator[SqliteProducer]:
    made = SqliteEventLog(tmp_path / "log.db", 4).producer()
    yield made
    made.close()


def test_a_transaction_that_the_disk_has_ended_says_what_ended_it(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "full.db")) as connection:
        connection.execute("CREATE TABLE things (thing BLOB)")
        connection.execute("PRAGMA max_page_count = 4")
        with pytest.raises(Exception, match="full"), transaction(connection):
            connection.execute("INSERT INTO things VALUES (?)", (bytes(100_000),))


def test_after_a_full_disk_the_same_connection_takes_what_fits(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "full.db")) as connection:
        connection.execute("CREATE TABLE things (thing BLOB)")
        connection.execute("PRAGMA max_page_count = 4")
        with pytest.raises(Exception, match="full"), transaction(connection):
            connection.execute("INSERT INTO things VALUES (?)", (bytes(100_000),))
        with transaction(connection):
            connection.execute("INSERT INTO things VALUES ('small')")
        assert connection.execute("SELECT thing FROM things").fetchall() == [("small",)]


def test_a_log_that_cannot_be_opened_refuses_and_takes_again_once_it_can(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "log.db", 4)
    aside = tmp_path / "aside"
    os.rename(tmp_path / "log.db", aside)
    (tmp_path / "log.db").mkdir()
    with closing(log.producer()) as producer:
        with pytest.raises(LogUnavailable):
            producer.append(TOPIC, "one", b"first").result(timeout=5)
        (tmp_path / "log.db").rmdir()
        os.rename(aside, tmp_path / "log.db")
        assert producer.append(TOPIC, "one", b"second").result(timeout=5).offset == 0


def test_a_key_that_cannot_be_encoded_hurts_its_caller_only(producer: SqliteProducer) -> None:
    with pytest.raises(UnicodeEncodeError):
        producer.append(TOPIC, "\ud800", b"half a character")
    assert producer.append(TOPIC, "one", b"whole").result(timeout=5).offset == 0
