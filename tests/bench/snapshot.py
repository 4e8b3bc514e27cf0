"""Ten million feedback rows in PostgreSQL, a dataset of them, and the next one after a day more: seconds and memory.

`python -m tests.bench.snapshot [--votes 10000000] [--json]`. Events are sealed as the gateway seals them and copied
straight into the tables; what is timed is the product's own way from tables to files, in a process of its own.
"""

import argparse
import json
import multiprocessing
import os
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import psycopg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from rich.progress import Progress

from feedback.cells import bucket_of
from feedback.intake.staging import COLUMNS, column_types
from infra.console import err, print_json, print_table
from infra.database.engine import open_database
from infra.database.migrate import migrate
from infra.database.tables import Base
from infra.eventlog.sqlite import connect, transaction
from infra.keystore.sqlite import SqliteKeyStore
from infra.services.local import free_ports, local_services
from tests.support.events import NOON, TENANT, make_choice, make_comparison, make_feedback, make_inference
from tests.support.servers import fresh_database

RESULT = Path(".thumbwheel/bench/snapshot.json")
DAYS = 80
RATERS = 50_000
PROMPTS = 200_000
PIECE = 2000  # pairs in one transaction
AGREEMENT = 0.75  # how often somebody finds the first of two answers better
VOTES_PER_PAIR = 8  # four comparisons of two answers, and two thumbs for each
VOTE_COLUMNS = ("tenant", "vote_id", "event_id", "occurred_at", "rater", "alias", "status", "consent_train",
                "consent_explicit", "pairs", "thumbs", "counted", "counted_thumbs", "first_seen_at")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Person:
    """A rater's hash, data key and bucket."""

    rater: str
    key_id: str
    cipher: AESGCM
    bucket: int


@dataclass
class Crowd:
    """Everybody, and the templates that their events are cut from."""

    people: list[Person]
    rng: random.Random
    sequence: int = 0

    def seal(self, person: Person, event: UUID, body: str) -> bytes:
        nonce = secrets.token_bytes(12)
        return nonce + person.cipher.encrypt(nonce, body.encode(), event.bytes)

    def event(self) -> UUID:
        return UUID(int=self.rng.getrandbits(128))


def recruit(path: Path, count: int) -> list[Person]:
    """Keys of all of them, in one transaction."""
    SqliteKeyStore(path)
    names = [secrets.token_hex(16) for _ in range(count)]
    rows = [(secrets.token_hex(16), TENANT, name, secrets.token_bytes(32), NOON.isoformat()) for name in names]
    with closing(connect(path)) as connection, transaction(connection):
        connection.executemany(
            "INSERT INTO data_keys (key_id, tenant, rater, key, created_at) VALUES (?, ?, ?, ?, ?)", rows
        )
    return [Person(rater, key_id, AESGCM(key), bucket_of(rater)) for key_id, _, rater, key, _ in rows]


@dataclass(frozen=True)
class Templates:
    """Bodies as JSON with marks where they differ: making each by pydantic would take an hour."""

    answer: str
    comparison: str
    thumb: str

    @classmethod
    def make(cls) -> "Templates":
        tokens = {"token_ids": list(range(20)), "logprobs": [-0.25] * 20}
        choice = make_choice("Answer @text. It returns the cosine of x.", **tokens)
        return cls(
            make_inference("@response", prompt="Question @prompt: what is it for?", choices=[choice]).model_dump_json(),
            make_comparison("@a", "@b", "@").model_dump_json().replace('"@"', '"@choice"'),
            make_feedback("@response").model_dump_json().replace('"value":true', '"value":@value'),
        )


def rows_of_pair(crowd: Crowd, texts: Templates, at: datetime) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """One question answered twice, and everybody's votes on both answers."""
    rng, number = crowd.rng, crowd.sequence
    crowd.sequence += 1
    owner, prompt = rng.choice(crowd.people), rng.randrange(PROMPTS)
    responses = (f"r{number}a", f"r{number}b")
    for response in responses:
        body = texts.answer.replace("@response", response).replace("@prompt", str(prompt))
        yield from _answer(crowd, owner, response, body.replace("@text", f"{prompt} {rng.randrange(50)}"), at)
    for voter in rng.sample(crowd.people, 4):
        choice = "a" if rng.random() < AGREEMENT else "b"
        body = texts.comparison.replace("@choice", choice).replace("@a", responses[0]).replace("@b", responses[1])
        yield from _vote(crowd, voter, "comparison", body, responses, at, 1)
        place = rng.randrange(2)
        liked = (rng.random() < AGREEMENT) is (place == 0)
        body = texts.thumb.replace("@response", responses[place]).replace("@value", "true" if liked else "false")
        yield from _vote(crowd, voter, "thumbs", body, (responses[place],), at, 0)


def _envelope(crowd: Crowd, person: Person, body: str, at: datetime) -> dict[str, Any]:
    event = crowd.event()
    return {
        "tenant": TENANT, "event_id": event.hex, "rater": person.rater, "session_id": None, "segment": None,
        "source": "human", "consent_train": True, "consent_explicit": True, "retain_until": None, "occurred_at": at,
        "received_at": at, "log_partition": 0, "log_offset": crowd.sequence, "bucket": person.bucket,
        "key_id": person.key_id, "sealed": crowd.seal(person, event, body), "erased_at": None, "erasure_id": None,
    }  # fmt: skip


def _answer(
    crowd: Crowd, owner: Person, response: str, body: str, at: datetime
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    values = {
        **_envelope(crowd, owner, body, at), "response_id": response, "alias": "assistant", "status": "completed",
        "stored": True, "rateable": True, "base_revision": "base", "turn": 1, "parent_response_id": None,
        "regenerated_from": None, "rollout_id": None, "rollout_step": None, "started_at": at,
        "ended_at": at,
    }  # fmt: skip
    yield "inferences", tuple(values[name] for name in COLUMNS["inferences"])
    choice = {"tenant": TENANT, "response_id": response, "index": 0, "version": "base", "arm": "champion",
              "arm_propensity": 1.0, "finish_reason": "stop"}  # fmt: skip
    yield "choices", tuple(choice[name] for name in COLUMNS["choices"])


def _vote(
    crowd: Crowd, voter: Person, kind: str, body: str, targets: tuple[str, ...], at: datetime, pairs: int
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    envelope = _envelope(crowd, voter, body, at)
    vote_id = secrets.token_hex(32)
    values = {**envelope, "vote_id": vote_id, "kind": kind, "name": kind, "retracted": False, "pairs": pairs,
              "thumbs": 1 - pairs}  # fmt: skip
    yield "vote_events", tuple(values[name] for name in COLUMNS["vote_events"])
    for target in targets:
        yield "vote_targets", (TENANT, vote_id, target)
    row = {**values, "alias": "assistant", "status": "joined", "counted": pairs,
           "counted_thumbs": 1 - pairs, "first_seen_at": at}  # fmt: skip
    yield "votes", tuple(row[name] for name in VOTE_COLUMNS)


@dataclass(frozen=True, slots=True)
class Piece:
    """Some pairs, numbered from `first` on, whose events are spread over `days` from `start` on."""

    first: int
    count: int
    start: datetime
    days: float


_people: list[Person] = []  # inherited by the processes that fill: ciphers can't be sent


def put(url: str, pairs: int, first: int, start: datetime, days: float, progress: Callable[[int], object]) -> None:
    """In pieces of a few thousand pairs, by a process for each core."""
    pieces = [
        Piece(first + at, min(PIECE, pairs - at), start + timedelta(days=days * at / pairs), days * PIECE / pairs)
        for at in range(0, pairs, PIECE)
    ]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("fork")) as pool:
        for count in pool.map(partial(put_piece, url), pieces):
            progress(count)


def put_piece(url: str, piece: Piece) -> int:
    """A COPY for each table."""
    crowd, texts = Crowd(_people, random.Random(piece.first), piece.first), Templates.make()
    rows: dict[str, list[tuple[Any, ...]]] = {}
    for offset in range(piece.count):
        at = piece.start + timedelta(days=piece.days * offset / PIECE)
        for table, row in rows_of_pair(crowd, texts, at):
            rows.setdefault(table, []).append(row)
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as connection:
        for table, found in rows.items():
            _copy(connection, table, found)
    return piece.count


def _copy(connection: psycopg.Connection[Any], table: str, rows: list[tuple[Any, ...]]) -> None:
    names = VOTE_COLUMNS if table == "votes" else COLUMNS[table]
    columns = ", ".join(f'"{name}"' for name in names)
    with connection.cursor() as cursor, cursor.copy(f"COPY {table} ({columns}) FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(column_types(table, names))
        for row in rows:
            copy.write_row(row)


def build(home: Path, url: str, as_of: datetime, offset: int) -> dict[str, Any]:
    """In a process of its own: seconds, peak memory, and what came out."""
    argv = [sys.executable, "-m", "tests.bench.snapshot_worker", str(home), as_of.isoformat(), str(offset)]
    environ = {**os.environ, "BENCH_DATABASE": url}
    done = subprocess.run(argv, env=environ, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def measure(home: Path, url: str, votes: int) -> dict[str, Any]:
    _people[:] = recruit(home / "keyring.db", min(RATERS, max(100, votes // 50)))
    began, pairs = time.monotonic(), votes // VOTES_PER_PAIR
    database = open_database(url)
    migrate(database)
    indexes = [index for table in Base.metadata.sorted_tables for index in table.indexes]
    with Progress(console=err()) as progress:
        filling = progress.add_task("fill", total=pairs)
        with database.engine.begin() as connection:
            for index in indexes:
                index.drop(connection)
        put(url, pairs, 0, NOON - timedelta(days=DAYS), DAYS - 1, lambda count: progress.advance(filling, count))
        with database.engine.begin() as connection:
            for index in indexes:
                index.create(connection)
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
    database.close()
    filled, more = time.monotonic() - began, max(1, pairs // 100)
    first = build(home, url, NOON, pairs + 1)
    put(url, more, pairs, NOON - timedelta(hours=12), 0, lambda _count: None)
    second = build(home, url, NOON + timedelta(seconds=1), pairs + more + 1)
    new = {"votes": votes, "new_votes": more * VOTES_PER_PAIR, "cores": os.cpu_count(), "fill_s": round(filled, 1)}
    return {**new, "first": first, "second": second}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--votes", type=int, default=10_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="thumbwheel-bench-") as directory:
        home = Path(directory)
        home.chmod(0o711)
        services = local_services(home, free_ports(), bound=True)
        try:
            services.postgres.start()
            began = time.monotonic()
            found = measure(home, fresh_database(services.postgres), options.votes)
            found["seconds"] = round(time.monotonic() - began, 1)
        finally:
            services.stop()
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    if options.json:
        print_json(found)
        return
    print_table(
        ("dataset", "seconds", "peak MiB", "rows", "files", "new files"),
        [
            (name, *(found[name][key] for key in ("seconds", "peak_mib", "rows", "files", "new_files")))
            for name in ("first", "second")
        ],
    )


if __name__ == "__main__":
    main()
