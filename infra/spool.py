"""The spool: events on local disk until the log has them, so that a killed process loses none.

A spool is a directory of append-only segments that one process owns by a lock. Each record is a frame: length, CRC,
payload. Records are handed out in order, and a segment goes once all of its records are acknowledged. Whoever finds
the directory of a dead owner may open it and ship the rest: see `infra.shipping`.
"""

import fcntl
import os
import shutil
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import structlog

log = structlog.get_logger()

FRAME = struct.Struct("<II")  # length and CRC-32 of the payload
HEAD = struct.Struct("<HH")  # lengths of topic and key; the rest of the payload is the value
CURSOR = struct.Struct("<QQ")  # segment, offset: everything before is in the log
SEGMENT_BYTES = 8 << 20
READ_BYTES = 4 << 20  # one batch; no frame may be longer
End = tuple[int, int]  # segment, offset behind a record


class SpoolFull(RuntimeError):
    """The spool's limit, or the disk's, is reached: the record was not stored."""


class SpoolTaken(RuntimeError):
    """Another live process owns this directory, or has just removed it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record on its way to the log."""

    topic: str
    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries in order; `ends[i]` is what to acknowledge once `entries[:i + 1]` are in the log."""

    entries: list[Entry]
    ends: list[End]


class Spool:
    """Any thread may append and sync; one reads and acknowledges. `max_bytes` bounds what is not acknowledged."""

    def __init__(
        self, directory: Path, *, max_bytes: int, segment_bytes: int = SEGMENT_BYTES, create: bool = True
    ) -> None:
        """Raises SpoolTaken; with `create` False also where there is no such spool."""
        self.directory = directory
        self._max_bytes, self._segment_bytes = max_bytes, segment_bytes
        self._owner = _own(directory, create)
        self._lock, self._sync_lock, self._grown = threading.Lock(), threading.Lock(), threading.Event()
        self._cursor_file = os.open(directory / "cursor", os.O_RDWR | os.O_CREAT, 0o600)
        sizes = {int(path.stem): path.stat().st_size for path in directory.glob("*.segment")}
        self._acked: End = _first_unacknowledged(self._cursor_file, sizes)
        self._unacked = sum(size for number, size in sizes.items() if number >= self._acked[0]) - self._acked[1]
        self._active = max(sizes, default=self._acked[0] - 1) + 1  # never append behind what may be a torn tail
        self._file, self._offset = self._new_segment(), 0
        self._rotated: list[int] = []  # full segments that were not synced yet
        self._appended = self._synced = 0  # numbers of records

    @property
    def unshipped_bytes(self) -> int:
        return self._unacked

    def append(self, entry: Entry) -> int:
        """Hands the record to the operating system, which survives a kill of this process; raises SpoolFull.

        Returns what to give `sync`, which also survives a power cut.
        """
        frame = encode(entry)
        with self._lock:
            if self._unacked + len(frame) > self._max_bytes:
                raise SpoolFull(f"{self._unacked} of {self._max_bytes} bytes wait for the log")
            if self._offset >= self._segment_bytes:
                self._rotate()
            self._write(frame)
            self._appended += 1
            ticket = self._appended
        self._grown.set()
        return ticket

    def sync(self, ticket: int | None = None) -> None:
        """Returns when that record (or all) is on the disk; those who wait together share one fsync.

        Raises SpoolFull where the disk fails.
        """
        wanted = self._appended if ticket is None else ticket
        with self._sync_lock:
            if self._synced >= wanted:
                return
            with self._lock:
                covered, files = self._appended, [*self._rotated, os.dup(self._file)]
                self._rotated.clear()
            _sync_all(files)
            self._synced = covered

    def wait(self, timeout_s: float) -> None:
        """Until something was appended since the last `read`, or the time is up."""
        self._grown.wait(timeout_s)

    def wake(self) -> None:
        self._grown.set()

    def read(self) -> Batch:
        """What follows the last acknowledged record; empty when all is acknowledged."""
        self._grown.clear()
        while True:
            active = self._active  # asked before the look: only a segment that was closed by then is seen whole
            batch = self._read_segment()
            if batch.entries or self._acked[0] >= active:
                return batch
            self._finish_segment()

    def acknowledge(self, end: End) -> None:
        """Everything up to `end` is in the log."""
        with self._lock:
            self._unacked -= end[1] - self._acked[1]
        self._move_cursor(end)

    def close(self) -> None:
        """Lets go of the directory, and removes it where nothing waits in it."""
        empty = not self.read().entries
        for file in (*self._rotated, self._file, self._cursor_file):
            os.close(file)
        if empty:
            shutil.rmtree(self.directory)
        os.close(self._owner)

    def _write(self, frame: bytes) -> None:
        try:
            written = os.write(self._file, frame)
        except OSError as error:
            raise SpoolFull(f"the disk did not take the record: {error}") from error
        if written < len(frame):
            os.ftruncate(self._file, self._offset)
            raise SpoolFull("the disk is full")
        self._offset += len(frame)
        self._unacked += len(frame)

    def _rotate(self) -> None:
        self._rotated.append(self._file)
        self._active += 1
        self._file, self._offset = self._new_segment(), 0

    def _new_segment(self) -> int:
        return os.open(self._segment(self._active), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _segment(self, number: int) -> Path:
        return self.directory / f"{number:016d}.segment"

    def _read_segment(self) -> Batch:
        segment, offset = self._acked
        try:
            with self._segment(segment).open("rb") as file:
                file.seek(offset)
                data = file.read(READ_BYTES)
        except FileNotFoundError:
            return Batch([], [])
        found = list(decode(data))
        return Batch([entry for entry, _ in found], [(segment, offset + end) for _, end in found])

    def _finish_segment(self) -> None:
        """All that can be read of a closed segment is acknowledged: what is left is the torn tail of a dead owner."""
        segment, offset = self._acked
        path = self._segment(segment)
        torn = path.stat().st_size - offset if path.exists() else 0
        if torn:
            log.warning("spool_tail_torn", segment=str(path), bytes=torn)
        with self._lock:
            self._unacked -= torn
        self._move_cursor((segment + 1, 0))
        path.unlink(missing_ok=True)

    def _move_cursor(self, end: End) -> None:
        self._acked = end
        os.pwrite(self._cursor_file, CURSOR.pack(*end), 0)


def encode(entry: Entry) -> bytes:
    """One frame."""
    topic, key = entry.topic.encode(), entry.key.encode()
    payload = b"".join((HEAD.pack(len(topic), len(key)), topic, key, entry.value))
    if FRAME.size + len(payload) > READ_BYTES:
        raise ValueError(f"a record of {len(payload)} bytes is too long for the spool")
    return FRAME.pack(len(payload), crc32(payload)) + payload


def decode(data: bytes) -> Iterator[tuple[Entry, int]]:
    """Each entry with the offset behind it, up to the end or a torn frame; a frame that was changed is left out."""
    at = 0
    while at + FRAME.size <= len(data):
        length, checksum = FRAME.unpack_from(data, at)
        payload = data[at + FRAME.size : at + FRAME.size + length]
        if len(payload) < length:
            return
        at += FRAME.size + length
        if crc32(payload) != checksum:
            log.error("spool_record_corrupt", bytes=length)
            continue
        yield _entry(payload), at


def _entry(payload: bytes) -> Entry:
    topic_length, key_length = HEAD.unpack_from(payload)
    key_at = HEAD.size + topic_length
    value_at = key_at + key_length
    return Entry(payload[HEAD.size : key_at].decode(), payload[key_at:value_at].decode(), payload[value_at:])


def _own(directory: Path, create: bool) -> int:
    """The locked file. A lock on a file that its former owner has removed meanwhile is worth nothing."""
    if create:
        directory.mkdir(parents=True, exist_ok=True)
    path = directory / "lock"
    try:
        file = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o600)
    except FileNotFoundError:
        raise SpoolTaken(f"there is no spool in {directory}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.stat().st_ino == os.fstat(file).st_ino:
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(file)
    raise SpoolTaken(f"{directory} belongs to another process")


def _sync_all(files: list[int]) -> None:
    try:
        for file in files:
            os.fsync(file)
    except OSError as error:
        raise SpoolFull(f"the disk did not take the record: {error}") from error
    finally:
        for file in files:
            os.close(file)


def _first_unacknowledged(cursor_file: int, sizes: dict[int, int]) -> End:
    """The cursor, unless it is missing or points before the first segment there is."""
    stored = os.pread(cursor_file, CURSOR.size, 0)
    segment, offset = CURSOR.unpack(stored) if len(stored) == CURSOR.size else (0, 0)
    first = min((number for number in sizes if number >= segment), default=segment)
    return (segment, offset) if first == segment and offset <= sizes.get(segment, 0) else (first, 0)
