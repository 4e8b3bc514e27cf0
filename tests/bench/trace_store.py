"""A store for the trace benchmark: events of eighty days, datasets of them, and a version trained on each dataset."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import insert, text
from sqlalchemy.orm import Session

from feedback.datasets.snapshot import Order, Snapshots
from feedback.intake.staging import COLUMNS
from infra.contracts.events import FEEDBACK_TOPIC, INFERENCE_TOPIC
from infra.contracts.manifests import DatasetManifest
from infra.database.tables import Base
from infra.ports import Ports
from infra.settings import FeedbackSettings
from tests.bench.snapshot import DAYS, RATERS, VOTE_COLUMNS, VOTES_PER_PAIR, Crowd, Templates, recruit, rows_of_pair
from tests.support.events import NOON, TENANT, make_sealer
from tests.support.feedback import ALIAS, Room
from tests.support.lineages import train

EVENTS_PER_PAIR = VOTES_PER_PAIR + 2
PIECE = 1000  # pairs in one transaction
SMALL = 5000  # pairs, of which one process makes a dataset sooner than several that have to be started
PARTS = (0.6, 0.8, 1.0)  # of the events, in the order of time: where a dataset is cut and a version follows


def fill(ports: Ports, events: int) -> int:
    """Straight into the tables, without their indexes meanwhile; returns how many pairs of answers there are."""
    pairs, rng = max(10, events // EVENTS_PER_PAIR), random.Random(0)
    people = recruit(ports.home / "keyring.db", min(RATERS, max(100, pairs // 6)))
    crowd, texts = Crowd(people, rng), Templates.make()
    numbers = iter(range(pairs))
    with _without_indexes(ports):
        while piece := list(islice(numbers, PIECE)):
            rows = (row for number in piece for row in rows_of_pair(crowd, texts, moment(number / pairs)))
            with ports.database.transaction() as session:
                put(session, rows)
    return pairs


def moment(share: float) -> datetime:
    return NOON - timedelta(days=DAYS) + timedelta(days=(DAYS - 1) * share)


def put(session: Session, rows: Iterator[tuple[str, tuple[Any, ...]]]) -> None:
    named: dict[str, list[dict[str, Any]]] = {}
    for table, row in rows:
        names: Sequence[str] = VOTE_COLUMNS if table == "votes" else COLUMNS[table]
        named.setdefault(table, []).append(dict(zip(names, row, strict=True)))
    for table, found in named.items():
        session.execute(insert(Base.metadata.tables[table]), found)


@contextmanager
def _without_indexes(ports: Ports) -> Iterator[None]:
    indexes = [index for table in Base.metadata.sorted_tables for index in table.indexes]
    with ports.database.engine.begin() as connection:
        for index in indexes:
            index.drop(connection)
    yield
    with ports.database.engine.begin() as connection:
        for index in indexes:
            index.create(connection)
        connection.execute(text("ANALYZE"))


def freeze(ports: Ports, pairs: int, told: Callable[[str], None]) -> list[tuple[DatasetManifest, float]]:
    """A dataset at each cut, the later ones made from the one before; with the seconds that each took."""
    sealer, settings = make_sealer(ports.home), FeedbackSettings(snapshot_processes=0 if pairs > SMALL else 1)
    snapshots = Snapshots(ports.database, sealer, ports.artifacts, ports.home / "snapshots", settings)
    made = []
    for part in PARTS:
        began, offset = time.monotonic(), int(pairs * part)
        cut = {(topic, 0): offset for topic in (INFERENCE_TOPIC, FEEDBACK_TOPIC)}
        manifest = snapshots.build(Order(TENANT, ALIAS, moment(part) + timedelta(hours=1), cut))
        made.append((manifest, round(time.monotonic() - began, 1)))
        told(f"{manifest.dataset_id} in {made[-1][1]} s")
    return made


def teach(ports: Ports, datasets: Sequence[DatasetManifest], pairs: int) -> list[str]:
    """A version of each dataset and all before it, which answers from its cut on; returns the versions."""
    room = Room(ports.home, ports.database, ports.sealer, ports.eventlog)
    versions = list[str]()
    for at, part in enumerate(PARTS):
        parent = {"init": "champion", "parent": versions[-1]} if versions else {}
        versions.append(f"{ALIAS}-{at + 1}-{'abcdef'[at] * 8}")
        train(room, *datasets[: at + 1], version=versions[-1], **parent)
        since = {"version": versions[-1], "since": int(pairs * part) - 1}  # the last one answers at least once
        with ports.database.transaction() as session:
            session.execute(
                text(
                    "UPDATE choices SET version = :version WHERE response_id IN"
                    " (SELECT response_id FROM inferences WHERE log_offset >= :since)"
                ),
                since,
            )
    return versions
