"""What only a server can do to us: go away, say nothing, be the wrong one, and keep what was deleted."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import psutil
import psycopg
import pytest

from infra.clock import now
from infra.keystore.base import KeyringAway
from infra.keystore.postgres import PostgresKeyStore
from infra.keystore.watch import PATIENCE_S, STALE_S
from infra.sealing import KeyDestroyed, Keyring
from infra.services.postgres import Postgres
from tests.support.keyrings import seconds_until
from tests.support.servers import fresh_database

NOBODY = "postgresql+psycopg://me:do-not-show@127.0.0.1:9/keys"
LIMIT_S = 20


@pytest.fixture
def url(postgres: Postgres) -> str:
    return fresh_database(postgres)


@pytest.fixture
def store(url: str) -> Iterator[PostgresKeyStore]:
    made = PostgresKeyStore(url)
    yield made
    made.close()


def query(url: str, statement: str) -> list[tuple[bytes, ...]]:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        found = connection.execute(statement.encode())
        return found.fetchall() if found.description else []


@contextmanager
def silent(postgres: Postgres) -> Iterator[None]:
    """Every process of the server holds its connections and says nothing."""
    record = postgres.record
    assert record is not None
    server = psutil.Process(record.pid)
    processes = [server, *server.children(recursive=True)]
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process.pid, signal.SIGCONT)


def until_back(keyring: Keyring, key_id: str, sealed: bytes) -> bytes:
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            return keyring.unseal(key_id, sealed, context=b"")
        except KeyringAway:
            assert time.monotonic() < deadline


def test_a_keyring_is_made_without_its_server_and_says_so_when_it_is_used() -> None:
    with closing(PostgresKeyStore(NOBODY)) as store:
        keyring = Keyring(store)
        with pytest.raises(KeyringAway, match="the keyring database does not answer") as refused:
            keyring.seal("default", "me", b"x", context=b"")
        assert "do-not-show" not in str(refused.value)
        with pytest.raises(KeyringAway):
            keyring.destroy("default", "me")


def test_while_the_server_is_away_known_people_are_sealed_for_and_nothing_is_opened(
    postgres: Postgres, store: PostgresKeyStore
) -> None:
    keyring = Keyring(store)
    key_id, sealed = keyring.seal("default", "me", b"before", context=b"")
    postgres.stop()
    try:
        seconds_until(KeyringAway, lambda: keyring.unseal(key_id, sealed, context=b""))
        assert keyring.knows("default", "me")
        same, meanwhile = keyring.seal("default", "me", b"meanwhile", context=b"")
        with pytest.raises(KeyringAway):
            keyring.seal("default", "somebody new", b"x", context=b"")
    finally:
        postgres.start()
    assert same == key_id
    assert until_back(keyring, key_id, meanwhile) == b"meanwhile"


def test_a_server_that_says_nothing_never_holds_up_whoever_seals_for_a_known_person(
    postgres: Postgres, store: PostgresKeyStore
) -> None:
    keyring = Keyring(store)
    key_id, sealed = keyring.seal("default", "me", b"x", context=b"")
    slowest, end = 0.0, time.monotonic() + STALE_S + PATIENCE_S + 0.1
    with silent(postgres):
        while time.monotonic() < end:
            began = time.monotonic()
            assert keyring.knows("default", "me")
            keyring.seal("default", "me", b"x", context=b"")
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.001)
        began = time.monotonic()
        with pytest.raises(KeyringAway):
            keyring.unseal(key_id, sealed, context=b"")
        refused_after = time.monotonic() - began
    assert slowest < 0.5
    assert refused_after < 0.5
    assert until_back(keyring, key_id, sealed) == b"x"


def test_another_host_stops_using_a_destroyed_key_within_the_stated_time(store: PostgresKeyStore, url: str) -> None:
    with closing(PostgresKeyStore(url)) as other:
        here, there = Keyring(store), Keyring(other)
        for _ in range(5):
            box = there.seal("default", "me", b"x", context=b"")
            here.destroy("default", "me")
            assert seconds_until(KeyDestroyed, lambda box=box: there.unseal(*box, context=b"")) < STALE_S


def test_the_main_database_is_refused_by_its_tables_too(store: PostgresKeyStore, url: str) -> None:
    query(url, "CREATE TABLE alembic_version (version_num text)")
    with pytest.raises(KeyringAway, match="names the main database"):
        store.describe()


def test_a_database_of_a_newer_version_is_refused(store: PostgresKeyStore, url: str) -> None:
    store.describe()
    query(url, "UPDATE keyring SET version = 2")
    with closing(PostgresKeyStore(url)) as later, pytest.raises(KeyringAway, match="version 2.*update Thumbwheel"):
        later.current("default", "me")


def test_no_version_of_the_row_holds_the_key_once_it_is_destroyed(store: PostgresKeyStore, url: str) -> None:
    query(url, "CREATE EXTENSION pageinspect")
    versions = "SELECT t_data FROM heap_page_items(get_raw_page('data_keys', 0)) WHERE t_data IS NOT NULL"
    _, key = store.current("default", "me")
    assert any(key in version for (version,) in query(url, versions))
    store.destroy("default", "me", now())
    assert not any(key in version for (version,) in query(url, versions))


def test_an_erasure_that_is_repeated_makes_nobody_forget_anything(store: PostgresKeyStore) -> None:
    keyring = Keyring(store)
    keyring.seal("default", "me", b"x", context=b"")
    up_to = now()
    keyring.destroy("default", "me", up_to)
    keyring.seal("default", "you", b"x", context=b"")
    keyring.destroy("default", "me", up_to)
    assert keyring.knows("default", "you")


def test_no_error_tells_a_key(store: PostgresKeyStore, url: str) -> None:
    """Its server quotes the whole row, and SQLAlchemy the parameters."""
    store.describe()
    query(url, "ALTER TABLE data_keys ADD CHECK (length(key) = 1)")
    with pytest.raises(KeyringAway, match="check constraint") as refused:
        store.current("default", "somebody")
    assert "somebody" not in str(refused.value)
    assert refused.value.__suppress_context__
