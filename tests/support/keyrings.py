"""Keyrings as other processes have them."""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from infra.keystore.base import KeyStore
from infra.keystore.postgres import PostgresKeyStore
from infra.keystore.sqlite import SqliteKeyStore
from infra.sealing import Keyring


def open_store(place: str) -> KeyStore:
    """`place` is the URL of a database or the path of a file."""
    return PostgresKeyStore(place) if "://" in place else SqliteKeyStore(Path(place))


def seconds_until(error: type[Exception], action: Callable[[], object], *, limit_s: float = 10) -> float:
    """How long the action could still be begun without that error; fails where it never comes."""
    began = last = time.monotonic()
    while last - began < limit_s:
        now = time.monotonic()
        try:
            action()
        except error:
            return last - began
        last = now
        time.sleep(0.005)
    raise AssertionError(f"there was no {error.__name__} in {limit_s:g} seconds")


def ids_of_many(place: str, raters: list[str]) -> list[str]:
    """The ids of their keys, as a process sees them that seals something for each."""
    with closing(open_store(place)) as store:
        keyring = Keyring(store)
        return [keyring.seal("default", rater, b"x", context=b"")[0] for rater in raters]
