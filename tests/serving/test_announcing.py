"""What became of rollouts gets to the log: in order, at least once, and whatever is away meanwhile."""

import asyncio
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from uuid6 import uuid7

from infra.contracts.events import ROLLOUT_TOPIC, Envelope
from infra.contracts.rollouts import RolloutEvent
from infra.eventlog.base import EventLog, LogUnavailable, Position, Producer, Record
from infra.eventlog.kafka import Connection, KafkaEventLog
from infra.ports import Ports
from infra.registry import adapters, news, wishes
from infra.registry.adapters import AdapterState
from infra.registry.wishes import Wish
from infra.services.kafka import Kafka
from serving import announcing
from serving.announcing import Announcing
from tests.support.controllers import PATIENCE_S, eventually
from tests.support.home import make_ports
from tests.support.manifests import make_adapter_manifest

VERSION = "assistant-1-aaaaaaaa"


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = make_ports(tmp_path)
    yield made
    made.close()


@pytest.fixture(params=["sqlite", "kafka"])
def eventlog(request: pytest.FixtureRequest, ports: Ports) -> Iterator[EventLog]:
    made = open_kafka(request) if request.param == "kafka" else ports.eventlog
    made.prepare({ROLLOUT_TOPIC: 1.0})
    yield made
    made.close()


def open_kafka(request: pytest.FixtureRequest) -> EventLog:
    """Its topics are this test's own."""
    kafka: Kafka = request.getfixturevalue("kafka")
    return KafkaEventLog(Connection([kafka.address], prefix=f"{uuid7().hex}."), 2)


@pytest.fixture
def producer(eventlog: EventLog) -> Iterator[Producer]:
    made = eventlog.producer()
    yield made
    made.close()


class Forgetful:
    """A log that takes records, and acknowledges none of them until it is told to."""

    def __init__(self, behind: Producer) -> None:
        self.behind, self.acknowledges = behind, False

    def append(self, topic: str, key: str, value: bytes) -> "Future[Position]":
        taken = self.behind.append(topic, key, value)
        if self.acknowledges:
            return taken
        taken.result(10)
        lost: Future[Position] = Future()
        lost.set_exception(LogUnavailable("the connection broke"))
        return lost

    def close(self) -> None:
        self.behind.close()


def ask_for(ports: Ports) -> str:
    """A promotion that is taken back at once: two pieces of news."""
    with ports.database.transaction() as session:
        adapters.register(session, make_adapter_manifest(version=VERSION), f"adapters/{VERSION}")
        adapters.move(session, VERSION, AdapterState.ACCEPTED)
        rollout_id = wishes.promote(session, Wish(VERSION, "base", "ada", "better")).rollout_id
        wishes.abort(session, rollout_id, tenant="default", actor="ada", reason="worse after all")
    return rollout_id


def on_the_log(ports: Ports, eventlog: EventLog, count: int) -> list[tuple[Envelope, RolloutEvent]]:
    records: list[Record] = []
    deadline = time.monotonic() + PATIENCE_S
    with closing(eventlog.consumer("look", [ROLLOUT_TOPIC])) as consumer:
        while len(records) < count:
            assert time.monotonic() < deadline, f"{len(records)} of {count} are on the log"
            records += consumer.poll(100, 0.5)
    envelopes = [Envelope.model_validate_json(record.value) for record in records]
    opened = [(envelope, ports.sealer.open(envelope, RolloutEvent)) for envelope in envelopes]
    assert [record.key for record in records] == [event.rollout_id for _, event in opened]
    return opened


def waiting(ports: Ports) -> int:
    with ports.database.reading() as session:
        return len(news.oldest(session, 100))


def test_each_move_is_one_sealed_event_under_the_rollouts_key(
    ports: Ports, eventlog: EventLog, producer: Producer
) -> None:
    rollout_id = ask_for(ports)
    assert Announcing(ports.database, ports.sealer, producer).turn() == 2
    (asked, first), (_, second) = on_the_log(ports, eventlog, 2)
    assert (asked.tenant, asked.rater, first.rollout_id, first.reason) == ("default", None, rollout_id, "better")
    assert [(first.before, first.state), (second.before, second.state)] == [
        (None, "requested"), ("requested", "aborted"),
    ]  # fmt: skip
    assert second.error == "ada: worse after all"
    assert waiting(ports) == 0


def test_what_was_not_acknowledged_is_told_again_by_the_same_event_id(
    ports: Ports, eventlog: EventLog, producer: Producer
) -> None:
    ask_for(ports)
    log = Forgetful(producer)
    announcer = Announcing(ports.database, ports.sealer, log)
    with pytest.raises(LogUnavailable):
        announcer.turn()
    assert waiting(ports) == 2, "nothing is forgotten before the log has it"
    log.acknowledges = True
    assert announcer.turn() == 2
    (first, _), (again, _), _ = told = on_the_log(ports, eventlog, 3)
    assert again.event_id == first.event_id, "a reader can tell that it came before"
    assert [event.state for _, event in told] == ["requested", "requested", "aborted"], "nothing overtook it"


async def test_it_goes_on_once_the_log_is_there_again_and_says_that_it_was_away(
    ports: Ports, producer: Producer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "AGAIN_S", 0.05)
    ask_for(ports)
    log, stop = Forgetful(producer), asyncio.Event()
    with capture_logs() as lines:
        running = asyncio.create_task(Announcing(ports.database, ports.sealer, log).run(stop, lambda: True))
        await eventually(lambda: lines, "it said that the log is away")
        log.acknowledges = True
        await eventually(lambda: waiting(ports) == 0, "all of it was told")
        stop.set()
        await running
    assert (lines[0]["event"], lines[0]["reason"]) == ("rollouts_not_told", "the connection broke")


async def test_a_controller_that_does_not_lead_tells_nothing(ports: Ports, producer: Producer) -> None:
    ask_for(ports)
    asked, stop = asyncio.Event(), asyncio.Event()

    def leads() -> bool:
        asked.set()
        return False

    running = asyncio.create_task(Announcing(ports.database, ports.sealer, producer).run(stop, leads))
    await asked.wait()
    stop.set()
    await running
    assert waiting(ports) == 2
