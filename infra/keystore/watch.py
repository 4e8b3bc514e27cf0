"""Reads a number again and again in a thread of its own, so that nobody else has to wait for the one who knows it."""

import threading
import time
from collections.abc import Callable

import structlog

from infra.keystore.base import KeyringAway

log = structlog.get_logger()

LOOK_S = 0.25  # between two looks
STALE_S = 1.0  # an older number is not believed
PATIENCE_S = 3.0  # longest that anybody waits beyond that: a restarted server is back by then


class Watch:
    """The number as it was at most `STALE_S` ago. `read` raises KeyringAway; the thread begins with the first question.

    A server that says nothing hangs that thread alone: everybody else hears KeyringAway, at once after `PATIENCE_S`.
    """

    def __init__(self, read: Callable[[], int]) -> None:
        self._read, self._news, self._closed = read, threading.Condition(), threading.Event()
        self._number, self._asked_at = 0, float("-inf")
        self._trouble = ""
        self._thread: threading.Thread | None = None

    def number(self, *, wait: bool) -> int:
        """Raises KeyringAway: without `wait` at once where there is no fresh number."""
        with self._news:
            self._begin()
            patience_s = self._asked_at + STALE_S + PATIENCE_S - time.monotonic() if wait else 0
            if not self._news.wait_for(self._is_fresh, patience_s):
                raise KeyringAway(self._trouble or "the keyring database has not answered for a while")
            return self._number

    def look(self) -> None:
        """Reads it now. Of two looks at one time the one that asked later is believed."""
        asked_at = time.monotonic()
        number = self._read()
        with self._news:
            if asked_at > self._asked_at:
                self._number, self._asked_at = number, asked_at
                self._news.notify_all()

    def close(self) -> None:
        """A thread that still waits for an answer ends with its process."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(timeout=LOOK_S)

    def _begin(self) -> None:
        if self._thread is None:
            self._asked_at = max(self._asked_at, time.monotonic() - STALE_S)
            self._thread = threading.Thread(target=self._follow, name="keyring-watch", daemon=True)
            self._thread.start()

    def _follow(self) -> None:
        while not self._closed.is_set():
            try:
                self.look()
            except KeyringAway as error:
                self._tell(str(error))
            else:
                self._tell("")
            self._closed.wait(LOOK_S)

    def _tell(self, trouble: str) -> None:
        """Once, however long it lasts."""
        if trouble and not self._trouble:
            log.warning("keyring_unreachable", reason=trouble)
        if self._trouble and not trouble:
            log.info("keyring_reached_again")
        self._trouble = trouble

    def _is_fresh(self) -> bool:
        return time.monotonic() - self._asked_at < STALE_S
