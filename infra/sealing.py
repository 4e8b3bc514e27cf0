"""Event bodies are sealed with the data key of the person they belong to: erasing a person is destroying a key.

The keys lie outside the database and its backups: `infra/keystore/`.
"""

import secrets
from dataclasses import dataclass, field
from datetime import datetime

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from infra.clock import now
from infra.keystore.base import KeyringAway, KeyStore, KeyUnknown

__all__ = ["KeyDestroyed", "KeyUnknown", "Keyring", "KeyringAway", "SealBroken"]

NONCE_BYTES = 12


class KeyDestroyed(LookupError):
    """The data key is gone: the body can never be read again."""


class SealBroken(ValueError):
    """The box was not sealed with this key for this purpose, or was changed since."""


@dataclass(frozen=True, slots=True)
class _Cache:
    """Keys in use as of one generation. It is replaced, not emptied: a key being fetched meanwhile goes too."""

    generation: int | None = None
    live: dict[tuple[str, str], tuple[str, AESGCM]] = field(default_factory=dict)
    ciphers: dict[str, AESGCM] = field(default_factory=dict)


class Keyring:
    """Data keys by owner. `rater` None is the tenant's own key. Safe to share between threads and processes.

    Keys in use are cached, and forgotten once one was destroyed: at once in the process that destroys it and with keys
    in a file, within `infra.keystore.watch.STALE_S` in other processes with keys in PostgreSQL.

    Where the keys can't be reached, what is cached still seals and opens nothing: a box that was sealed with a key
    destroyed meanwhile can be opened by nobody.
    """

    def __init__(self, store: KeyStore) -> None:
        self._store, self._cache = store, _Cache()

    def __reduce__(self) -> tuple[type["Keyring"], tuple[KeyStore]]:
        """In another process it begins without any keys."""
        return Keyring, (self._store,)

    def seal(self, tenant: str, rater: str | None, plain: bytes, *, context: bytes) -> tuple[str, bytes]:
        """Returns (key_id, nonce + ciphertext). `context` is authenticated, not stored: the event id's bytes.

        Raises KeyringAway.
        """
        key_id, cipher = self._current((tenant, rater or ""))
        nonce = secrets.token_bytes(NONCE_BYTES)
        return key_id, nonce + cipher.encrypt(nonce, plain, context)

    def unseal(self, key_id: str, sealed: bytes, *, context: bytes) -> bytes:
        """Raises KeyDestroyed, KeyUnknown, SealBroken or KeyringAway."""
        cache = self._heeding(wait=True)
        cipher = cache.ciphers.get(key_id) or self._load(cache, key_id)
        try:
            return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            raise SealBroken(f"a body sealed with key {key_id} does not open") from None

    def destroy(self, tenant: str, rater: str, created_before: datetime | None = None) -> list[str]:
        """Destroys this rater's keys, or those made up to then; later use starts a new one.

        Returns the ids of all that were made up to then and are destroyed since, by whomever: it may be done again.
        Raises KeyringAway.
        """
        return self._store.destroy(tenant, rater, created_before or now())

    def knows(self, tenant: str, rater: str | None) -> bool:
        """Whether `seal` asks nobody for this owner's key: for callers that must not wait for a disk or a server."""
        owner = (tenant, rater or "")
        try:
            return owner in self._heeding(wait=False).live
        except KeyringAway:
            return owner in self._cache.live

    def describe(self) -> str:
        """What keeps the keys, and where. Raises KeyringAway."""
        return self._store.describe()

    def close(self) -> None:
        self._store.close()

    def _heeding(self, *, wait: bool) -> _Cache:
        """What is cached, unless a key was destroyed since, by whichever process."""
        generation = self._store.generation(wait=wait)
        if (cache := self._cache).generation != generation:
            cache = self._cache = _Cache(generation)
        return cache

    def _current(self, owner: tuple[str, str]) -> tuple[str, AESGCM]:
        known = self._cache.live.get(owner)
        try:
            cache = self._heeding(wait=known is None)
        except KeyringAway:
            if known is None:
                raise
            return known
        if (found := cache.live.get(owner)) is None:
            key_id, key = self._store.current(*owner)
            found = cache.live[owner] = (key_id, cache.ciphers.setdefault(key_id, AESGCM(key)))
        return found

    def _load(self, cache: _Cache, key_id: str) -> AESGCM:
        if (key := self._store.load(key_id)) is None:
            raise KeyDestroyed(f"data key {key_id} is gone")
        return cache.ciphers.setdefault(key_id, AESGCM(key))
