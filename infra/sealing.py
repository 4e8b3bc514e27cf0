"""Event bodies are sealed with the data key of the person they belong to: erasing a person is destroying a key.

The keyring is a SQLite file of its own, outside the database and its backups.
"""

import os
import secrets
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from infra.clock import now
from infra.eventlog.sqlite import connect, transaction

NONCE_BYTES = 12
SCHEMA = """
CREATE TABLE IF NOT EXISTS data_keys (
  key_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, rater TEXT NOT NULL, key BLOB, created_at TEXT NOT NULL,
  destroyed_at TEXT);
CREATE UNIQUE INDEX IF NOT EXISTS one_live_key ON data_keys (tenant, rater) WHERE key IS NOT NULL;
"""
DESTROY = (
    "UPDATE data_keys SET key = NULL, destroyed_at = ?"
    " WHERE tenant = ? AND rater = ? AND created_at <= ? AND key IS NOT NULL"
)
DESTROYED = "SELECT key_id FROM data_keys WHERE tenant = ? AND rater = ? AND created_at <= ? AND destroyed_at >= ?"


class KeyDestroyed(LookupError):
    """The data key is gone: the body can never be read again."""


class KeyUnknown(LookupError):
    """This keyring never had that data key: the body comes from another home, or its key id is made up."""


class SealBroken(ValueError):
    """The box was not sealed with this key for this purpose, or was changed since."""


class Keyring:
    """Data keys by owner. `rater` None is the tenant's own key. Safe to share between threads and processes.

    Keys in use are cached. A file beside the keyring is touched by whoever destroys one, so that every process forgets
    its cache before the next use: asking its time costs a microsecond, asking SQLite a hundred.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._stamp = path, path.with_suffix(".destroyed")
        self._stamped_ns = 0
        self._live: dict[tuple[str, str], tuple[str, bytes]] = {}
        self._ciphers: dict[str, AESGCM] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._stamp.touch(mode=0o600)
        with closing(connect(path)) as connection:
            connection.executescript(SCHEMA)

    def seal(self, tenant: str, rater: str | None, plain: bytes, *, context: bytes) -> tuple[str, bytes]:
        """Returns (key_id, nonce + ciphertext). `context` is authenticated, not stored: the event id's bytes."""
        self._heed_others()
        key_id, key = self._current(tenant, rater or "")
        nonce = secrets.token_bytes(NONCE_BYTES)
        return key_id, nonce + self._cipher(key_id, key).encrypt(nonce, plain, context)

    def unseal(self, key_id: str, sealed: bytes, *, context: bytes) -> bytes:
        """Raises KeyDestroyed, KeyUnknown or SealBroken."""
        self._heed_others()
        cipher = self._ciphers.get(key_id) or self._cipher(key_id, self._load(key_id))
        try:
            return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            raise SealBroken(f"a body sealed with key {key_id} does not open") from None

    def destroy(self, tenant: str, rater: str, created_before: datetime | None = None) -> list[str]:
        """Destroys this rater's keys, or those made up to then; later use starts a new one.

        Returns the ids of all that were made up to then and are destroyed since, by whomever: it may be done again.
        """
        at = now().isoformat()
        until = created_before.astimezone(UTC).isoformat() if created_before else at
        with closing(connect(self._path)) as connection:
            connection.execute("PRAGMA secure_delete=ON")
            with transaction(connection):
                connection.execute(DESTROY, (at, tenant, rater, until))
            rows = connection.execute(DESTROYED, (tenant, rater, until, until)).fetchall()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        os.utime(self._stamp, ns=(time.time_ns(), time.time_ns()))  # the kernel's own clock ticks in milliseconds
        self._heed_others()
        return [key_id for (key_id,) in rows]

    def knows(self, tenant: str, rater: str | None) -> bool:
        """Whether `seal` needs no look into the keyring file: for callers that must not wait for a disk."""
        return (tenant, rater or "") in self._live

    def _heed_others(self) -> None:
        """Drops what is cached here where a key was destroyed since, in whichever process."""
        stamped_ns = self._stamp.stat().st_mtime_ns
        if stamped_ns != self._stamped_ns:
            self._live.clear()
            self._ciphers.clear()
            self._stamped_ns = stamped_ns

    def _current(self, tenant: str, rater: str) -> tuple[str, bytes]:
        if (found := self._live.get((tenant, rater))) is None:
            found = self._live[tenant, rater] = self._create(tenant, rater)
        return found

    def _create(self, tenant: str, rater: str) -> tuple[str, bytes]:
        fresh = (secrets.token_hex(16), tenant, rater, secrets.token_bytes(32), now().isoformat())
        with closing(connect(self._path)) as connection, transaction(connection):
            connection.execute(
                "INSERT INTO data_keys (key_id, tenant, rater, key, created_at) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                fresh,
            )
            query = "SELECT key_id, key FROM data_keys WHERE tenant = ? AND rater = ? AND key IS NOT NULL"
            key_id, key = connection.execute(query, (tenant, rater)).fetchone()
        return key_id, key

    def _load(self, key_id: str) -> bytes:
        with closing(connect(self._path)) as connection:
            row: sqlite3.Row | None = connection.execute(
                "SELECT key FROM data_keys WHERE key_id = ?", (key_id,)
            ).fetchone()
        if row is None:
            raise KeyUnknown(f"there is no data key {key_id}")
        if row[0] is None:
            raise KeyDestroyed(f"data key {key_id} is gone")
        return bytes(row[0])

    def _cipher(self, key_id: str, key: bytes) -> AESGCM:
        return self._ciphers.setdefault(key_id, AESGCM(key))
