"""What a keyring asks of whatever keeps its keys."""

from datetime import datetime
from typing import Protocol


class KeyringAway(ConnectionError):
    """The data keys cannot be reached at the moment: what needed one may be tried again."""


class KeyUnknown(LookupError):
    """This keyring never had that data key: the body comes from another home, or its key id is made up."""


class KeyStore(Protocol):
    """Data keys by owner; the rater "" is the tenant itself. Safe to share between threads and processes.

    A destroyed key stays as a row without its bytes. Everything but `close` raises KeyringAway.
    """

    def generation(self, *, wait: bool) -> int:
        """Another number once a key was destroyed by any process: what was cached under the old one is to be forgotten.

        Without `wait` it raises KeyringAway rather than block.
        """
        ...

    def current(self, tenant: str, rater: str) -> tuple[str, bytes]:
        """Id and bytes of the owner's one live key, which is made where there is none."""
        ...

    def load(self, key_id: str) -> bytes | None:
        """Its bytes; None once it is destroyed. Raises KeyUnknown."""
        ...

    def destroy(self, tenant: str, rater: str, until: datetime) -> list[str]:
        """Destroys what was made up to then; returns all that was and is destroyed since then, by whomever."""
        ...

    def describe(self) -> str:
        """What it is and where; makes its tables where they are missing."""
        ...

    def close(self) -> None: ...
