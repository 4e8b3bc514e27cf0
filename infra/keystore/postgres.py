"""Data keys in a PostgreSQL database of their own, apart from the main one and its backups: for any number of hosts.

Its tables are made at first use. What PostgreSQL keeps of a destroyed key: docs/decisions/0021.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from infra.clock import now
from infra.keystore.base import KeyringAway, KeyUnknown
from infra.keystore.watch import PATIENCE_S, Watch

VERSION = 1
CONNECTIONS = 4
TIMEOUTS = {
    "connect_timeout": 2,
    "options": "-c lock_timeout=10s",
    "tcp_user_timeout": 5000,  # ms; with these a server that has vanished is noticed in seconds, not in 15 minutes
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
# One statement, so one transaction; the lock ("key") keeps two processes from making the same table at one time.
SCHEMA = """
DO $$ BEGIN
  PERFORM pg_advisory_xact_lock(7038329);
  CREATE TABLE IF NOT EXISTS data_keys (
    key_id TEXT PRIMARY KEY, tenant TEXT NOT NULL, rater TEXT NOT NULL, key BYTEA,
    created_at TIMESTAMPTZ NOT NULL, destroyed_at TIMESTAMPTZ);
  CREATE UNIQUE INDEX IF NOT EXISTS one_live_key ON data_keys (tenant, rater) WHERE key IS NOT NULL;
  CREATE INDEX IF NOT EXISTS destroyed_keys ON data_keys (tenant, rater) WHERE key IS NULL;
  CREATE TABLE IF NOT EXISTS keyring (version INTEGER NOT NULL, generation BIGINT NOT NULL);
  INSERT INTO keyring SELECT 1, 0 WHERE NOT EXISTS (SELECT FROM keyring);
END $$
"""
FOUND = text("SELECT to_regclass('alembic_version') IS NOT NULL, to_regclass('keyring') IS NOT NULL")
LIVE = text("SELECT key_id, key FROM data_keys WHERE tenant = :tenant AND rater = :rater AND key IS NOT NULL")
CREATE = text(
    "INSERT INTO data_keys (key_id, tenant, rater, key, created_at)"
    " VALUES (:key_id, :tenant, :rater, :key, :created_at) ON CONFLICT DO NOTHING"
)
DESTROY = text(
    "WITH gone AS ("
    " UPDATE data_keys SET key = NULL, destroyed_at = GREATEST(:at, :until)"
    " WHERE tenant = :tenant AND rater = :rater AND created_at <= :until AND key IS NOT NULL RETURNING key_id)"
    " UPDATE keyring SET generation = generation + 1 WHERE EXISTS (SELECT FROM gone)"
)
DESTROYED = text(
    "SELECT key_id FROM data_keys"
    " WHERE tenant = :tenant AND rater = :rater AND key IS NULL AND created_at <= :until AND destroyed_at >= :until"
)


class PostgresKeyStore:
    """The generation is a number in a table, which a thread reads four times a second: it is never older than a second.

    Every statement is a transaction of its own, so that a process that is stopped holds up nobody.
    """

    def __init__(self, url: str) -> None:
        """Connects when it is first asked."""
        self._url = url
        self._engine = _engine(url, CONNECTIONS)
        self._looks = _engine(url, 1)  # the watch never waits for those who fetch keys
        self._watch = Watch(self._generation)
        self._prepared = False

    def __reduce__(self) -> tuple[type["PostgresKeyStore"], tuple[str]]:
        """In another process it connects for itself."""
        return PostgresKeyStore, (self._url,)

    def generation(self, *, wait: bool) -> int:
        return self._watch.number(wait=wait)

    def current(self, tenant: str, rater: str) -> tuple[str, bytes]:
        with self._asking(self._engine) as connection:
            while (row := connection.execute(LIVE, {"tenant": tenant, "rater": rater}).one_or_none()) is None:
                connection.execute(CREATE, _fresh(tenant, rater))
        return row.key_id, row.key

    def load(self, key_id: str) -> bytes | None:
        query = text("SELECT key FROM data_keys WHERE key_id = :key_id")
        with self._asking(self._engine) as connection:
            row = connection.execute(query, {"key_id": key_id}).one_or_none()
        if row is None:
            raise KeyUnknown(f"there is no data key {key_id}")
        key: bytes | None = row.key
        return key

    def destroy(self, tenant: str, rater: str, until: datetime) -> list[str]:
        """The row's old version, which has the key, is taken out by the VACUUM."""
        whose = {"tenant": tenant, "rater": rater, "until": until}
        with self._asking(self._engine) as connection:
            connection.execute(DESTROY, {**whose, "at": now()})
            destroyed = connection.execute(DESTROYED, whose).scalars().all()
            self._watch.look()
            connection.execute(text("VACUUM data_keys"))
        return list(destroyed)

    def describe(self) -> str:
        with self._asking(self._engine) as connection:
            version = connection.execute(text("SHOW server_version")).scalar_one()
        url = self._engine.url
        return f"PostgreSQL {version}, database {url.database} at {url.host}"

    def close(self) -> None:
        self._watch.close()
        self._engine.dispose()
        self._looks.dispose()

    def _generation(self) -> int:
        with self._asking(self._looks) as connection:
            return int(connection.execute(text("SELECT generation FROM keyring")).scalar_one())

    @contextmanager
    def _asking(self, engine: Engine) -> Iterator[Connection]:
        try:
            with engine.connect() as connection:
                if not self._prepared:
                    _prepare(connection)
                    self._prepared = True
                yield connection
        except SQLAlchemyError as error:
            reason = str(error).strip().splitlines()[0]
            # The rest of the error may quote a row, and a row has a key in it.
            raise KeyringAway(f"the keyring database does not answer: {reason}") from None


def _engine(url: str, connections: int) -> Engine:
    """Statements commit by themselves. What goes wrong is told without the parameters: keys are among them."""
    return create_engine(
        url, pool_size=connections, max_overflow=0, pool_timeout=PATIENCE_S, pool_pre_ping=True,
        isolation_level="AUTOCOMMIT", hide_parameters=True, connect_args=TIMEOUTS,
    )  # fmt: skip


def _prepare(connection: Connection) -> None:
    is_main, is_made = connection.execute(FOUND).one()
    if is_main:
        raise KeyringAway("infra.keyring_url names the main database: keys need one of their own, or backups keep them")
    if not is_made:
        connection.exec_driver_sql(SCHEMA)
    version = connection.execute(text("SELECT version FROM keyring")).scalar_one()
    if version != VERSION:
        raise KeyringAway(f"the keyring database is at version {version}, this code knows {VERSION}: update Thumbwheel")


def _fresh(tenant: str, rater: str) -> dict[str, object]:
    return {
        "key_id": secrets.token_hex(16),
        "tenant": tenant,
        "rater": rater,
        "key": secrets.token_bytes(32),
        "created_at": now(),
    }
