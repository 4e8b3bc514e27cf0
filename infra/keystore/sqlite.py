"""Data keys in a SQLite file beside the database, which its backups leave out: for the processes of one host."""

import os
import secrets
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from infra.clock import now
from infra.eventlog.sqlite import connect, transaction
from infra.keystore.base import KeyringAway, KeyUnknown

SCHEMA = """
CREATE TABLE IF NOT EXISTS data_keys (
  key_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, rater TEXT NOT NULL, key BLOB, created_at TEXT NOT NULL,
  destroyed_at TEXT);
CREATE UNIQUE INDEX IF NOT EXISTS one_live_key ON data_keys (tenant, rater) WHERE key IS NOT NULL;
"""
CREATE = "INSERT INTO data_keys (key_id, tenant, rater, key, created_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
LIVE = "SELECT key_id, key FROM data_keys WHERE tenant = ? AND rater = ? AND key IS NOT NULL"
DESTROY = (
    "UPDATE data_keys SET key = NULL, destroyed_at = ?"
    " WHERE tenant = ? AND rater = ? AND created_at <= ? AND key IS NOT NULL"
)
DESTROYED = "SELECT key_id FROM data_keys WHERE tenant = ? AND rater = ? AND created_at <= ? AND destroyed_at >= ?"


class SqliteKeyStore:
    """The generation is the time of a file beside it, which whoever destroys a key touches.

    Asking that time costs a microsecond, asking SQLite a hundred.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._stamp = path, path.with_suffix(".destroyed")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._stamp.touch(mode=0o600)
        with self._opened() as connection:
            connection.executescript(SCHEMA)

    def __reduce__(self) -> tuple[type["SqliteKeyStore"], tuple[Path]]:
        """In another process it is opened again."""
        return SqliteKeyStore, (self._path,)

    def generation(self, *, wait: bool) -> int:  # noqa: ARG002 it never blocks
        return self._stamp.stat().st_mtime_ns

    def current(self, tenant: str, rater: str) -> tuple[str, bytes]:
        fresh = (secrets.token_hex(16), tenant, rater, secrets.token_bytes(32), now().isoformat())
        with self._opened() as connection, transaction(connection):
            connection.execute(CREATE, fresh)
            key_id, key = connection.execute(LIVE, (tenant, rater)).fetchone()
        return key_id, key

    def load(self, key_id: str) -> bytes | None:
        with self._opened() as connection:
            row = connection.execute("SELECT key FROM data_keys WHERE key_id = ?", (key_id,)).fetchone()
        if row is None:
            raise KeyUnknown(f"there is no data key {key_id}")
        key: bytes | None = row[0]
        return key

    def destroy(self, tenant: str, rater: str, until: datetime) -> list[str]:
        at, made_by = now().isoformat(), until.astimezone(UTC).isoformat()
        with self._opened() as connection:
            connection.execute("PRAGMA secure_delete=ON")
            with transaction(connection):
                connection.execute(DESTROY, (at, tenant, rater, made_by))
            rows = connection.execute(DESTROYED, (tenant, rater, made_by, made_by)).fetchall()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        os.utime(self._stamp, ns=(time.time_ns(), time.time_ns()))  # the kernel's own clock ticks in milliseconds
        return [key_id for (key_id,) in rows]

    def describe(self) -> str:
        with self._opened() as connection:
            connection.execute("SELECT 1 FROM data_keys LIMIT 1").fetchall()
        return str(self._path)

    def close(self) -> None:
        """Nothing is held between calls."""

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(connect(self._path)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise KeyringAway(f"the keyring {self._path} cannot be used: {error}") from error
