"""The embedded log: one SQLite file in WAL mode with synchronous=FULL, appends committed in groups."""

import queue
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from infra.eventlog.base import LogUnavailable, Offsets, Position, Record, partition_of

SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
  topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
  key TEXT NOT NULL, value BLOB NOT NULL, timestamp REAL NOT NULL,
  PRIMARY KEY (topic, partition, offset)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS records_timestamp ON records (timestamp);
CREATE TABLE IF NOT EXISTS ends (topic TEXT, partition INTEGER, next INTEGER NOT NULL, PRIMARY KEY (topic, partition));
CREATE TABLE IF NOT EXISTS commits (
  consumer_group TEXT, topic TEXT, partition INTEGER, offset INTEGER NOT NULL,
  PRIMARY KEY (consumer_group, topic, partition));
CREATE TABLE IF NOT EXISTS members (
  consumer_group TEXT, member TEXT, seen_at REAL NOT NULL, PRIMARY KEY (consumer_group, member));
"""
BUSY_TIMEOUT_S = 30
GROUP_SIZE = 1000  # appends in one commit: one fsync for all that wait
WAIT_S = 0.02  # between two looks for new records
MEMBER_TTL_S = 5.0  # a silent member's partitions go to the others


@dataclass(frozen=True, slots=True)
class _Append:
    topic: str
    partition: int
    key: str
    value: bytes
    done: "Future[Position]"


class SqliteEventLog:
    """Any number of processes may append and consume. `partitions` must not change once written to."""

    def __init__(self, path: Path, partitions: int) -> None:
        self._path, self._partitions = path, partitions
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(connect(path)) as connection:
            connection.executescript(SCHEMA)

    def prepare(self, retention_days: Mapping[str, float]) -> None:
        """Topics come into being with their first record, and `trim` is called for what is old."""

    def producer(self) -> "SqliteProducer":
        return SqliteProducer(self._path, self._partitions)

    def consumer(self, group: str, topics: Sequence[str]) -> "SqliteConsumer":
        return SqliteConsumer(self._path, self._partitions, group, topics)

    def end_offsets(self, topics: Sequence[str]) -> dict[tuple[str, int], int]:
        with closing(connect(self._path)) as connection:
            rows = connection.execute("SELECT topic, partition, next FROM ends").fetchall()
        found = {(topic, partition): following for topic, partition, following in rows}
        return {(t, p): found.get((t, p), 0) for t in topics for p in range(self._partitions)}

    def committed(self, group: str, topics: Sequence[str]) -> dict[tuple[str, int], int]:
        with closing(connect(self._path)) as connection:
            found = _committed(connection, group)
        return {(t, p): found.get((t, p), 0) for t in topics for p in range(self._partitions)}

    def read(self, at: Position) -> Record | None:
        where = "topic = ? AND partition = ? AND offset = ?"
        with closing(connect(self._path)) as connection:
            query = f"SELECT key, value, timestamp FROM records WHERE {where}"
            row = connection.execute(query, (at.topic, at.partition, at.offset)).fetchone()
        return Record(at, row[0], row[1], datetime.fromtimestamp(row[2], UTC)) if row else None

    def trim(self, before: datetime) -> int:
        with closing(connect(self._path)) as connection, transaction(connection):
            return connection.execute("DELETE FROM records WHERE timestamp < ?", (before.timestamp(),)).rowcount

    def close(self) -> None:
        """Nothing is held between calls."""


class SqliteProducer:
    """Appends go to one writer thread, which commits all that wait at once."""

    def __init__(self, path: Path, partitions: int) -> None:
        self._path, self._partitions = path, partitions
        self._queue: queue.SimpleQueue[_Append | None] = queue.SimpleQueue()
        self._connection: sqlite3.Connection | None = None  # the writer thread's own
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="eventlog-writer", daemon=True)
        self._thread.start()

    def append(self, topic: str, key: str, value: bytes) -> "Future[Position]":
        """The key is encoded here, so that one that can't be hurts its caller only, not all who wait."""
        done: Future[Position] = Future()
        item = _Append(topic, partition_of(key, self._partitions), key, value, done)
        if self._closed:
            done.set_exception(LogUnavailable("this producer was closed"))
        else:
            self._queue.put(item)
        return done

    def close(self) -> None:
        self._closed = True
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        last = False
        while not last and (first := self._queue.get()) is not None:
            batch, last = self._gather(first)
            self._write(batch)
        self._disconnect()

    def _gather(self, first: _Append) -> tuple[list[_Append], bool]:
        batch = [first]
        while len(batch) < GROUP_SIZE and not self._queue.empty():
            item = self._queue.get()
            if item is None:
                return batch, True
            batch.append(item)
        return batch, False

    def _write(self, batch: list[_Append]) -> None:
        """A connection that failed is not used again: whatever broke it may have gone by the next batch."""
        try:
            self._connection = self._connection or connect(self._path)
            with transaction(self._connection) as connection:
                positions = [_insert(connection, item) for item in batch]
        except sqlite3.Error as error:
            self._disconnect()
            for item in batch:
                _settle(item.done, LogUnavailable(f"the event log did not take the record: {error}"))
            return
        for item, position in zip(batch, positions, strict=True):
            _settle(item.done, position)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class SqliteConsumer:
    """Partitions are shared among the group's live members by their rank; commits are what survives."""

    def __init__(self, path: Path, partitions: int, group: str, topics: Sequence[str]) -> None:
        self._connection = connect(path)
        self._partitions, self._group, self._topics = partitions, group, tuple(topics)
        self._member = f"{time.time_ns():x}-{id(self):x}"
        self._next: dict[tuple[str, int], int] = {}
        self._mine: set[int] = set()
        self._seen_at = 0.0
        self._read_up_to: int | None = None  # the file's version at the last look that found nothing

    def poll(self, max_records: int, timeout_s: float) -> list[Record]:
        deadline = time.monotonic() + timeout_s
        while True:
            self._share()
            records = self._read_news(max_records)
            if records or time.monotonic() >= deadline:
                return records
            time.sleep(min(WAIT_S, max(0.0, deadline - time.monotonic())))

    def commit(self, offsets: Offsets) -> None:
        """Never goes back: a member that was paused would undo what the one that took over has committed."""
        rows = [(self._group, topic, partition, offset) for (topic, partition), offset in offsets.items()]
        with transaction(self._connection):
            self._connection.executemany(
                "INSERT INTO commits VALUES (?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET offset = max(offset, excluded.offset)",
                rows,
            )

    def seek(self, offsets: Offsets) -> None:
        self._share()  # or the first poll would start from the commits all the same
        self._next.update(offsets)
        self._read_up_to = None

    def stay(self) -> None:
        self._share()

    def close(self) -> None:
        with closing(self._connection), transaction(self._connection):
            self._connection.execute("DELETE FROM members WHERE member = ?", (self._member,))

    def _share(self) -> None:
        """Tells the group that this member lives, and takes or gives up partitions as members come and go."""
        if time.time() - self._seen_at < MEMBER_TTL_S / 5:
            return
        self._seen_at = time.time()
        with transaction(self._connection):
            self._connection.execute(
                "INSERT INTO members VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET seen_at = excluded.seen_at",
                (self._group, self._member, self._seen_at),
            )
            self._connection.execute("DELETE FROM members WHERE seen_at < ?", (self._seen_at - MEMBER_TTL_S,))
            query = "SELECT member FROM members WHERE consumer_group = ? ORDER BY member"
            members = [member for (member,) in self._connection.execute(query, (self._group,))]
        rank = members.index(self._member)
        self._take({p for p in range(self._partitions) if p % len(members) == rank})

    def _take(self, wanted: set[int]) -> None:
        gained, self._mine = wanted - self._mine, wanted
        self._read_up_to = None if gained else self._read_up_to
        committed = _committed(self._connection, self._group)
        for topic in self._topics:
            for partition in gained:
                self._next[topic, partition] = committed.get((topic, partition), 0)

    def _read_news(self, max_records: int) -> list[Record]:
        """Asks for records only if somebody has written since a look that found none: waiting costs next to nothing.

        https://www.sqlite.org/pragma.html#pragma_data_version
        """
        [[version]] = self._connection.execute("PRAGMA data_version")
        if version == self._read_up_to:
            return []
        records = self._read(max_records)
        self._read_up_to = None if records else version
        return records

    def _read(self, max_records: int) -> list[Record]:
        records: list[Record] = []
        for topic in self._topics:
            for partition in sorted(self._mine):
                records += self._read_one(topic, partition, max_records - len(records))
        return records

    def _read_one(self, topic: str, partition: int, limit: int) -> list[Record]:
        rows = self._connection.execute(
            "SELECT offset, key, value, timestamp FROM records"
            " WHERE topic = ? AND partition = ? AND offset >= ? ORDER BY offset LIMIT ?",
            (topic, partition, self._next[topic, partition], limit),
        ).fetchall()
        if rows:
            self._next[topic, partition] = rows[-1][0] + 1
        return [
            Record(Position(topic, partition, offset), key, value, datetime.fromtimestamp(at, UTC))
            for offset, key, value, at in rows
        ]


def connect(path: Path) -> sqlite3.Connection:
    """A connection in autocommit mode, durable at each commit, usable from the thread that owns it for the moment."""
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Takes the write lock at once; commits at the end, rolls back on any error, that of the commit included."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise


def _insert(connection: sqlite3.Connection, item: _Append) -> Position:
    (following,) = connection.execute(
        "INSERT INTO ends VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET next = next + 1 RETURNING next",
        (item.topic, item.partition),
    ).fetchone()
    row = (item.topic, item.partition, following - 1, item.key, item.value, time.time())
    connection.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)", row)
    return Position(item.topic, item.partition, following - 1)


def _committed(connection: sqlite3.Connection, group: str) -> dict[tuple[str, int], int]:
    query = "SELECT topic, partition, offset FROM commits WHERE consumer_group = ?"
    return {(topic, partition): offset for topic, partition, offset in connection.execute(query, (group,))}


def _settle(done: "Future[Position]", outcome: Position | LogUnavailable) -> None:
    """A caller that stopped waiting has cancelled its future; the record is stored all the same."""
    if not done.set_running_or_notify_cancel():
        return
    if isinstance(outcome, LogUnavailable):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
