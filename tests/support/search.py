"""Looks for words in everything that is kept, opened as far as the keyring of this moment opens it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import ValidationError
from sqlalchemy import select
from uuid6 import uuid7

from feedback.datasets.archive import UNREADABLE, envelope_of
from infra.cases import open_case
from infra.contracts.events import FEEDBACK_TOPIC, INFERENCE_TOPIC, TOPICS, Envelope, Feedback, Inference
from infra.database.tables import Base, CaseRow
from infra.envelopes import Sealer
from infra.spool import decode
from tests.support.feedback import Room

KINDS = {INFERENCE_TOPIC: Inference, FEEDBACK_TOPIC: Feedback, "inferences": Inference, "vote_events": Feedback}


def search(room: Room, words: Sequence[str]) -> dict[str, set[str]]:
    """Word -> the kinds of places it is found in."""
    found: dict[str, set[str]] = {word: set() for word in words}
    for place, text in _everything(room):
        for word in words:
            if word in text:
                found[word].add(place)
    return found


def _everything(room: Room) -> Iterator[tuple[str, str]]:
    for place, texts in (("sql", _sql(room)), ("log", _log(room)), ("spool", _spool(room))):
        for text in texts:
            yield place, text
    yield from _artifacts(room.home / "artifacts")
    for path in _files(room.home):
        yield "disk", path.read_bytes().decode(errors="replace")


def _sql(room: Room) -> Iterator[str]:
    for table in Base.metadata.sorted_tables:
        with room.database.reading() as session:
            rows = session.execute(select(table)).all()
        for row in rows:
            yield " ".join(_plain(value) for value in row)
            if table.name in KINDS:
                yield _opened(room.sealer, envelope_of(row), KINDS[table.name])
            elif table.name == CaseRow.__tablename__:
                yield _case(room.sealer, row)


def _log(room: Room) -> Iterator[str]:
    """Every record of every topic, by a group that has never read anything."""
    consumer, wanted = (
        room.eventlog.consumer(f"search-{uuid7().hex}", TOPICS),
        sum(room.eventlog.end_offsets(TOPICS).values()),
    )
    while wanted:
        for record in consumer.poll(1000, 0.2):
            wanted -= 1
            yield _record(room.sealer, record.position.topic, record.value)
    consumer.close()


def _spool(room: Room) -> Iterator[str]:
    for segment in sorted((room.home / "spool").rglob("*.segment")):
        for entry, _ in decode(segment.read_bytes()):
            yield _record(room.sealer, entry.topic, entry.value)


def _record(sealer: Sealer, topic: str, value: bytes) -> str:
    plain = value.decode(errors="replace")
    try:
        return plain + _opened(sealer, Envelope.model_validate_json(value), KINDS[topic]) if topic in KINDS else plain
    except ValidationError:
        return plain


def _opened(sealer: Sealer, envelope: Envelope, kind: type[Inference] | type[Feedback]) -> str:
    try:
        return sealer.open(envelope, kind).model_dump_json()
    except UNREADABLE:
        return ""


def _case(sealer: Sealer, row: Any) -> str:
    try:
        return open_case(sealer, row).model_dump_json()
    except UNREADABLE:
        return ""


def _artifacts(root: Path) -> Iterator[tuple[str, str]]:
    for path in _files(root):
        if path.suffix == ".parquet":
            yield "parquet", json.dumps(pq.read_table(path).to_pylist(), default=str, ensure_ascii=False)
        elif path.suffix in (".json", ".jsonl"):
            yield path.suffix[1:], path.read_text()


def _files(root: Path) -> list[Path]:
    return [path for path in sorted(root.rglob("*")) if path.is_file()]


def _plain(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
