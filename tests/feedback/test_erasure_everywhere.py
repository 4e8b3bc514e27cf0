"""A person is erased: a search of everything that is kept finds their words before, and nothing after."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import func, select
from uuid6 import uuid7

from feedback.intake.consumer import GROUP, Loop, lag
from feedback.intake.decode import TOPICS as CONSUMED
from feedback.metrics import Metrics
from feedback.tables import InferenceRow, VoteEventRow
from infra.artifacts import dump_json
from infra.cases import Wanted
from infra.clock import now
from infra.contracts.events import INFERENCE_TOPIC, TOPICS, Consent
from infra.contracts.manifests import DatasetManifest, Evidence, Sample, SmokeCase
from infra.database.engine import open_database
from infra.database.tables import AdapterRow, DatasetRow
from infra.envelopes import Sealer
from infra.eventlog.kafka import Connection, KafkaEventLog
from infra.keystore.sqlite import SqliteKeyStore
from infra.registry import adapters, erasures
from infra.sealing import Keyring
from infra.spool import Entry, Spool
from tests.support.cases import make_case_maker, wish
from tests.support.events import TENANT, make_envelope, make_feedback, make_inference, make_sealer
from tests.support.feedback import ALIAS, Event, Room, make_room
from tests.support.manifests import make_adapter_manifest
from tests.support.people import HERS, MIA, mias_day, others_day, yesterday
from tests.support.search import search
from tests.support.servers import emptied_database

VERSION = "assistant-1-aaaaaaaa"
LARGE, WAITING = "Mia pastes juniper", "Mia whispers in the spool"
WORDS = (*HERS, LARGE, WAITING)


@pytest.fixture(params=["embedded", "full"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    """With a limit above which bodies go to the artifact store that a test can reach."""
    made = make_room(tmp_path) if request.param == "embedded" else _full(request, tmp_path)
    made.sealer = Sealer(Keyring(SqliteKeyStore(tmp_path / "keyring.db")), made.artifacts, inline_limit=8000)
    yield made
    made.close()


def _full(request: pytest.FixtureRequest, home: Path) -> Room:
    kafka, postgres = request.getfixturevalue("kafka"), request.getfixturevalue("postgres")
    log = KafkaEventLog(Connection([kafka.address], prefix=f"{uuid7().hex}."), 2)
    log.prepare(dict.fromkeys(TOPICS, 1.0))
    return Room(home, open_database(emptied_database(postgres)), make_sealer(home), log)


def consume(room: Room, group: str = GROUP) -> None:
    """Until this group has everything; one that has never read begins at the first record."""
    producer, consumer = room.eventlog.producer(), room.eventlog.consumer(group, CONSUMED)
    loop = Loop(room.intake(producer), consumer, threading.Event(), batch_size=500, poll_s=0.2)
    while any(
        end > room.eventlog.committed(group, CONSUMED)[at] for at, end in room.eventlog.end_offsets(CONSUMED).items()
    ):
        loop.turn()
    loop.close()
    consumer.close()
    producer.close()


def live(room: Room) -> DatasetManifest:
    """A day with Mia: stored, frozen, trained on; one more event of hers waits in a gateway's spool."""
    large = make_inference("mia-large", prompt=f"{LARGE} {'again ' * 3000}")
    room.append([*mias_day(), *others_day(), Event(large, "large", {"rater": MIA, "occurred_at": yesterday()})])
    consume(room)
    wish(room.database, room.sealer, "mia0a", Wanted(contains_all=[HERS[1]]))
    assert make_case_maker(room).turn() == 1
    spool(room)
    manifest = room.build(as_of=now())
    register_version(room, manifest)
    return manifest


def spool(room: Room) -> None:
    body = make_inference("mia-waiting", prompt=f"{WAITING}?")
    envelope = make_envelope(room.sealer, body, "waiting", rater=MIA, occurred_at=yesterday())
    waiting = Spool(room.home / "spool" / "gateway-gone", max_bytes=1 << 20)
    waiting.append(Entry(INFERENCE_TOPIC, "mia-waiting", envelope.model_dump_json().encode()))
    waiting.close()


def ship(room: Room) -> None:
    """What a gateway that adopts the spool does."""
    adopted = Spool(room.home / "spool" / "gateway-gone", max_bytes=1 << 20, create=False)
    batch, producer = adopted.read(), room.eventlog.producer()
    for entry in batch.entries:
        producer.append(entry.topic, entry.key, entry.value).result(timeout=30)
    adopted.acknowledge(batch.ends[-1])
    producer.close()
    adopted.close()


def register_version(room: Room, dataset: DatasetManifest) -> None:
    """An adapter that was trained on it, with evidence that quotes its prompts."""
    prompts = [
        row for file in dataset.files if file.path.startswith("prompts/") for row in read(room, dataset, file.path)
    ]
    samples = [
        Sample(prompt_id=row["prompt_id"], prompt=[{"role": "user", "content": row["prompt"][0]["content"]}],
               candidate="A candidate's answer.", champion="A champion's answer.")
        for row in prompts
    ]  # fmt: skip
    smoke = [SmokeCase(token_ids=[1, 2], logprobs=[-0.5], prompt_id=row["prompt_id"]) for row in prompts]
    evidence = Evidence(version=VERSION, champion="base", samples=samples, smoke=smoke)
    directory = room.home / "made"
    directory.mkdir()
    (directory / "evidence.json").write_bytes(dump_json(evidence.model_dump(mode="json")))
    room.artifacts.publish(f"adapters/{VERSION}", directory)
    (directory / "evidence.json").unlink()
    manifest = make_adapter_manifest(
        version=VERSION, dataset_ids=[dataset.dataset_id], dataset_sha256=[dataset.sha256], alias=ALIAS
    )
    with room.database.transaction() as session:
        adapters.register(session, manifest, f"adapters/{VERSION}")


def read(room: Room, dataset: DatasetManifest, name: str) -> list[dict[str, object]]:
    path = room.artifacts.local_path(f"datasets/{TENANT}/{dataset.dataset_id}") / name
    return list(pq.read_table(path).to_pylist())


def erase(room: Room) -> None:
    room.erase(MIA)
    consume(room)
    assert room.eraser().turn() == 1


def test_a_search_finds_the_words_before_and_nothing_after(room: Room) -> None:
    live(room)
    before = {word: places - {"disk"} for word, places in search(room, WORDS).items()}  # compressed, or not
    assert before[HERS[0]] == {"sql", "log", "parquet", "json"}
    assert before[HERS[1]] == before[HERS[2]] == {"sql", "log", "parquet"}
    assert before[HERS[3]] == {"sql", "log"}
    assert before[LARGE] == {"sql", "log", "parquet", "json"}
    assert before[WAITING] == {"spool"}
    erase(room)
    assert search(room, WORDS) == {word: set() for word in WORDS}
    assert search(room, [MIA])[MIA] - {"disk"} == {"sql", "log", "spool"}  # the tombstone, and envelopes


def test_the_erasure_names_what_it_touched(room: Room) -> None:
    dataset = live(room)
    erase(room)
    with room.database.reading() as session:
        (row,) = erasures.of_rater(session, TENANT, MIA)
        stored, version = session.get(DatasetRow, (TENANT, dataset.dataset_id)), session.get(AdapterRow, VERSION)
    assert stored is not None
    assert version is not None
    assert row.state == "done"
    assert row.report["datasets"].keys() == {dataset.dataset_id}
    assert row.report["adapters"] == [VERSION]
    assert row.report["evidence"] == {VERSION: 2 * 3}
    assert row.report["keys"] == 1
    assert (stored.manifest["erased"], stored.erased_at is not None) == (True, True)
    assert version.erasure is not None
    assert version.erasure.keys() == {row.erasure_id}
    path = f"datasets/{TENANT}/{dataset.dataset_id}"
    assert room.artifacts.read_json(f"{path}/manifest.json")["erased"] is True
    kept = Evidence.model_validate(room.artifacts.read_json(f"adapters/{VERSION}/evidence.json"))
    assert len(kept.samples) == len(kept.smoke) == 6
    room.artifacts.fetch(f"adapters/{VERSION}", room.home / "fetched")  # the marker fits what is there


def test_the_next_dataset_has_the_others_rows_and_none_of_theirs(room: Room) -> None:
    first = live(room)
    erase(room)
    second = room.build(as_of=now() + timedelta(minutes=1))
    assert second.parent == first.dataset_id
    assert search(room, WORDS) == {word: set() for word in WORDS}
    raters = {
        row["rater"] for file in second.files if not file.path.startswith("weights/")
        for row in read(room, second, file.path)
    }  # fmt: skip
    assert raters == {"rater-0", "rater-1", "rater-2"}


def test_a_full_replay_and_a_late_spool_bring_nothing_back(room: Room) -> None:
    live(room)
    erase(room)
    ship(room)
    consume(room)
    consume(room, group=f"replay-{uuid7().hex}")
    room.metrics = Metrics(CollectorRegistry())
    room.eraser().turn()
    with room.database.reading() as session:
        for table in (InferenceRow, VoteEventRow):
            assert session.scalar(select(func.count()).select_from(table).where(table.rater == MIA)) == 0
    assert search(room, WORDS) == {word: set() for word in WORDS}
    assert lag(room.eventlog) == 0


def test_a_database_made_anew_from_the_log_honours_the_tombstones(room: Room) -> None:
    live(room)
    erase(room)
    fresh = make_room(room.home / "fresh")
    fresh.sealer, fresh.eventlog = room.sealer, room.eventlog
    consume(fresh, group=f"replay-{uuid7().hex}")
    with fresh.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(InferenceRow)) == 12
        assert erasures.count(session, TENANT) == 1
    fresh.database.close()


def test_new_votes_of_the_same_person_are_stored_under_a_new_key(room: Room) -> None:
    live(room)
    erase(room)
    header = {"rater": MIA, "occurred_at": now(), "consent": Consent(train=True)}
    room.append([Event(make_feedback("other0a", value=True), "new thumb", header)])
    consume(room)
    with room.database.reading() as session:
        (row,) = session.scalars(select(VoteEventRow).where(VoteEventRow.rater == MIA)).all()
        old = session.scalars(select(VoteEventRow.key_id).where(VoteEventRow.erased_at.is_not(None))).all()
    assert row.key_id not in set(old)
    assert room.build(as_of=now() + timedelta(minutes=1)).counts["unpaired"]["train"] >= 1
