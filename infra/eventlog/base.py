"""What an event log is, whichever one stands behind it."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from zlib import crc32


class LogUnavailable(RuntimeError):
    """The log did not take the record. Nothing is known to be stored; the caller keeps it."""


@dataclass(frozen=True, slots=True)
class Position:
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Record:
    position: Position
    key: str
    value: bytes
    timestamp: datetime


Offsets = Mapping[tuple[str, int], int]  # (topic, partition) -> the next offset to read


class Producer(Protocol):
    def append(self, topic: str, key: str, value: bytes) -> Future[Position]:
        """The future ends when the record is durable, or with LogUnavailable. Never blocks on I/O."""
        ...

    def close(self) -> None:
        """Waits for what was appended, then lets go."""
        ...


class Consumer(Protocol):
    """One member of a group. Records of one partition come in order; uncommitted ones come again after a restart."""

    def poll(self, max_records: int, timeout_s: float) -> Sequence[Record]: ...

    def commit(self, offsets: Offsets) -> None:
        """Everything before these is done. Never takes the group back: to read again, seek."""
        ...

    def seek(self, offsets: Offsets) -> None:
        """Where this member reads on, before its first poll or after."""
        ...

    def stay(self) -> None:
        """Keeps this member's partitions while it can take no more records: to be called now and then."""
        ...

    def close(self) -> None: ...


class EventLog(Protocol):
    """What needs the log to answer raises LogUnavailable where it does not."""

    def prepare(self, retention_days: Mapping[str, float]) -> None:
        """Makes the topics that are missing, by name; the value is how long their records are kept."""
        ...

    def producer(self) -> Producer: ...

    def consumer(self, group: str, topics: Sequence[str]) -> Consumer: ...

    def end_offsets(self, topics: Sequence[str]) -> dict[tuple[str, int], int]:
        """Where the next record of each partition would go."""
        ...

    def committed(self, group: str, topics: Sequence[str]) -> dict[tuple[str, int], int]: ...

    def read(self, at: Position) -> Record | None:
        """One record; None where it is not there any more."""
        ...

    def trim(self, before: datetime) -> int:
        """Drops records older than `before`; returns how many."""
        ...

    def close(self) -> None: ...


def partition_of(key: str, partitions: int) -> int:
    """Stable over processes and restarts, so that all records of one key keep their order."""
    return crc32(key.encode()) % partitions
