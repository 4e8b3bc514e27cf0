"""Celery's broker without a server: kombu's folder of messages, in which a message appears whole or not at all.

kombu writes a message under the name by which it is read: a worker that looks in between reads an empty file and ends,
and a sender that is killed in between leaves one behind (seen with kombu 5.7).
"""

from pathlib import Path
from time import time_ns
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps
from uuid6 import uuid7


class Channel(filesystem.Channel):
    """Where messages are put; taking them is kombu's: it moves a file away before it reads it."""

    def _put(  # type: ignore[override]  # kombu's own two bases name the message differently
        self, queue: str, payload: dict[str, Any], **_options: Any
    ) -> None:
        folder, name = Path(self.data_folder_out), f"{time_ns()}_{uuid7().hex}.{queue}.msg"
        aside = folder / f".{name}"  # no name of a queue begins with a dot: nobody reads it
        aside.write_text(dumps(payload))
        aside.replace(folder / name)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """An empty table was left by a process that was killed between making and writing it."""
        table = self._exchange_file(exchange)  # type: ignore[no-untyped-call]  # kombu is half typed
        if table.is_file() and table.stat().st_size == 0:
            table.unlink()
        super()._queue_bind(exchange, routing_key, pattern, queue)  # type: ignore[no-untyped-call]


class Transport(filesystem.Transport):
    """As `broker_transport` of the Celery app."""

    Channel = Channel
