"""Takes spooled events to the log: this process' own as they come, and those that a dead one left behind."""

import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from infra.eventlog.base import LogUnavailable, Producer
from infra.spool import Batch, End, Spool, SpoolTaken

log = structlog.get_logger()

LINGER_S = 0.02  # records gather for one commit of the log
SYNC_S = 1.0  # the longest a spooled record stays in the page cache alone
ACK_TIMEOUT_S = 10.0
LAST_ACK_TIMEOUT_S = 2.0  # at the end of the process: the spool keeps what the log has not taken by then


class Shipper:
    """A thread that ships one spool in order, again and again until the log has taken it.

    `until_empty` ends the thread, and removes the spool, once nothing is left: for adopted spools.
    """

    def __init__(
        self,
        spool: Spool,
        producer: Producer,
        *,
        until_empty: bool = False,
        retry_s: float = 0.5,
        on_shipped: Callable[[int], object] = lambda _count: None,
    ) -> None:
        self._spool, self._producer, self._until_empty = spool, producer, until_empty
        self._retry_s, self._on_shipped = retry_s, on_shipped
        self._stopping = threading.Event()
        self._away = False  # the log's absence is logged once
        self._thread = threading.Thread(target=self._run, name=f"ship-{spool.directory.name}", daemon=True)

    @property
    def log_away(self) -> bool:
        """Whether the log refused the last batch, or somebody else has found it away since."""
        return self._away

    def suspect(self) -> None:
        """The log did not answer somebody else: it is taken to be away until a batch gets through."""
        self._away = True

    def start(self) -> None:
        self._thread.start()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        """Ships what it can at once, then lets go of the spool; what is left waits for whoever adopts it."""
        self._stopping.set()
        self._spool.wake()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            batch = self._spool.read()
            if batch.entries:
                if not self._ship(batch):
                    self._stopping.wait(self._retry_s)
            elif self._until_empty:
                break
            else:
                self._spool.wait(SYNC_S)
                self._stopping.wait(LINGER_S)
            self._spool.sync()
        self._flush()
        self._spool.close()

    def _flush(self) -> None:
        while (batch := self._spool.read()).entries and self._ship(batch, LAST_ACK_TIMEOUT_S):
            pass
        self._spool.sync()

    def _ship(self, batch: Batch, timeout_s: float = ACK_TIMEOUT_S) -> bool:
        """Acknowledges as far as the log has acknowledged, so that nothing overtakes what it refused."""
        done = [self._producer.append(entry.topic, entry.key, entry.value) for entry in batch.entries]
        taken: End | None = None
        try:
            for count, future in enumerate(done):
                future.result(timeout=timeout_s)
                taken = batch.ends[count]
        except (LogUnavailable, TimeoutError) as error:
            self._report(error)
            return False
        finally:
            if taken is not None:
                self._spool.acknowledge(taken)
                self._on_shipped(batch.ends.index(taken) + 1)
        self._away = False
        return True

    def _report(self, error: Exception) -> None:
        if not self._away:
            log.error("log_unavailable", reason=str(error), waiting_bytes=self._spool.unshipped_bytes)
        self._away = True


def adopt(root: Path, producer: Producer, *, max_bytes: int) -> list[Shipper]:
    """Starts a shipper for each spool under `root` whose owner is dead."""
    adopted = []
    for lock in sorted(root.glob("*/lock")):
        try:
            spool = Spool(lock.parent, max_bytes=max_bytes, create=False)
        except SpoolTaken:
            continue
        log.warning("spool_adopted", spool=lock.parent.name, bytes=spool.unshipped_bytes)
        adopted.append(Shipper(spool, producer, until_empty=True))
        adopted[-1].start()
    return adopted
