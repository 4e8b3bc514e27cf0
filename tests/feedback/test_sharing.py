"""Two and four feedback processes share one log: on Kafka and PostgreSQL, while some join, leave and are killed."""

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import func, select
from uuid6 import uuid7

from feedback.intake.consumer import lag
from feedback.tables import InferenceRow, VoteEventRow, VoteRow, VoteStatus
from infra.eventlog.base import Position
from infra.home import prepare
from infra.ports import Ports
from infra.services.kafka import Kafka
from infra.services.postgres import Postgres
from infra.settings import load_settings
from tests.support.events import key_of, make_envelope, make_feedback, make_inference, topic_of
from tests.support.servers import fresh_database

PATIENCE_S = 90  # a process imports for seconds, and a killed member is missed after ten
PAUSE_S = 0.02  # between two answers: some arrive in every hand-over
STORED = re.compile(r'^thumbwheel_feedback_events_total\{outcome="stored"\} (\S+)$', re.MULTILINE)


@dataclass
class Writer:
    """Appends answers with a thumb each, until it is told to stop."""

    ports: Ports
    stop: threading.Event = field(default_factory=threading.Event)
    answers: int = 0

    def run(self) -> None:
        sent: list[Future[Position]] = []
        with closing(self.ports.eventlog.producer()) as producer:
            while not self.stop.wait(PAUSE_S):
                response_id = f"r{self.answers}"
                for body in (make_inference(response_id), make_feedback(response_id)):
                    envelope = make_envelope(self.ports.sealer, body, rater=f"rater-{self.answers % 50}")
                    sent.append(producer.append(topic_of(body), key_of(body), envelope.model_dump_json().encode()))
                self.answers += 1
            for done in sent:
                done.result(timeout=PATIENCE_S)


@pytest.fixture
def environ(tmp_path: Path, kafka: Kafka, postgres: Postgres) -> dict[str, str]:
    return {
        "THUMBWHEEL_HOME": str(tmp_path),
        "THUMBWHEEL_INFRA__PROFILE": "full",
        "THUMBWHEEL_INFRA__DATABASE_URL": fresh_database(postgres),
        "THUMBWHEEL_INFRA__REDIS_URL": "redis://127.0.0.1:1/0",
        "THUMBWHEEL_INFRA__KAFKA_BOOTSTRAP_SERVERS": kafka.address,
        "THUMBWHEEL_INFRA__KAFKA_TOPIC_PREFIX": f"{uuid7().hex}.",
        "THUMBWHEEL_INFRA__EVENTLOG_PARTITIONS": "8",
        "THUMBWHEEL_INFRA__SECRET": "0" * 64,
        "THUMBWHEEL_FEEDBACK__KEEP_DAYS": "1000000",
    }


@pytest.fixture
def ports(tmp_path: Path, environ: dict[str, str]) -> Iterator[Ports]:
    made = Ports(load_settings(tmp_path, environ))
    prepare(made.settings)
    yield made
    made.close()


@contextmanager
def member(environ: dict[str, str], number: int) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-m", "feedback.main", "--name", f"feedback-{number}"]
    process = subprocess.Popen(argv, env={**os.environ, **environ})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def writing(ports: Ports) -> Iterator[Writer]:
    writer = Writer(ports)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(writer.run)
        try:
            yield writer
        finally:
            writer.stop.set()
            running.result()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def stored_by(ports: Ports, number: int) -> float:
    """How many events that process was the first to store; 0 while it does not answer yet."""
    path = ports.home / "run" / f"feedback-{number}.json"
    if not path.exists():
        return 0.0
    with urllib.request.urlopen(json.loads(path.read_text())["address"] + "/metrics", timeout=5) as page:
        found = STORED.search(page.read().decode())
    return float(found[1]) if found else 0.0


def all_work(ports: Ports, *numbers: int) -> None:
    """Each of them stores something more from now on."""
    before = {number: stored_by(ports, number) for number in numbers}
    until(lambda: all(stored_by(ports, n) > before[n] for n in numbers), f"{numbers} share the work")


def counts(ports: Ports) -> tuple[int, int, int, int]:
    """Answers, events of votes, votes, and those of them that found their answer."""
    joined = select(func.count()).select_from(VoteRow).where(VoteRow.status == VoteStatus.JOINED)
    with ports.database.reading() as session:
        tables = [session.scalar(select(func.count()).select_from(t)) for t in (InferenceRow, VoteEventRow, VoteRow)]
        return (*(count or 0 for count in tables), session.scalar(joined) or 0)  # type: ignore[return-value]


def all_is_stored_once(ports: Ports, writer: Writer) -> None:
    until(lambda: lag(ports.eventlog) == 0, "everything is consumed")
    wanted = (writer.answers,) * 4
    until(lambda: counts(ports) == wanted, f"{counts(ports)} should be {wanted}")


def test_two_processes_share_and_hand_over_when_one_joins_and_leaves(ports: Ports, environ: dict[str, str]) -> None:
    with member(environ, 1), writing(ports) as writer:
        all_work(ports, 1)
        with member(environ, 2) as second:
            all_work(ports, 1, 2)
            second.terminate()
            assert second.wait(timeout=PATIENCE_S) == 0
        all_work(ports, 1)
        writer.stop.set()
        all_is_stored_once(ports, writer)


def test_four_processes_share_and_go_on_when_one_is_killed_and_another_leaves(
    ports: Ports, environ: dict[str, str]
) -> None:
    with ExitStack() as stack:
        members = [stack.enter_context(member(environ, number)) for number in range(1, 5)]
        writer = stack.enter_context(writing(ports))
        all_work(ports, 1, 2, 3, 4)
        members[0].kill()
        members[1].terminate()
        assert members[1].wait(timeout=PATIENCE_S) == 0
        all_work(ports, 3, 4)
        writer.stop.set()
        all_is_stored_once(ports, writer)
