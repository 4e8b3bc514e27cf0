"""The feedback room on a directory: a log to write to, a consumer to run, datasets to build."""

import random
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from feedback.datasets.cut import Cutter
from feedback.datasets.snapshot import Order, Snapshots
from feedback.intake.consumer import GROUP, Intake, Loop
from feedback.intake.decode import TOPICS
from feedback.judgements.exchange import Answers, Exchange, make_exchange
from feedback.judgements.join import join
from feedback.judgements.judgement import Judgement
from feedback.metrics import Metrics
from feedback.rights.eraser import Eraser
from feedback.votes import Answered, Vote
from infra.artifacts import ArtifactStore
from infra.clock import now
from infra.contracts.events import (
    FEEDBACK_TOPIC,
    INFERENCE_TOPIC,
    Consent,
    Envelope,
    Erasure,
    Feedback,
    Inference,
)
from infra.contracts.manifests import DatasetManifest
from infra.database.engine import Database, open_database, sqlite_url
from infra.envelopes import Sealer
from infra.eventlog.base import EventLog, Position
from infra.eventlog.sqlite import SqliteEventLog
from infra.settings import FeedbackSettings
from tests.support.events import (
    NOON,
    TENANT,
    event_id,
    key_of,
    make_comparison,
    make_envelope,
    make_erasure,
    make_feedback,
    make_inference,
    make_ranking,
    make_sealer,
    moment,
    topic_of,
)
from tests.support.home import put_database

ALIAS = "assistant"
EVERYTHING = {"test_share": 1e-9, "gate_share": 0.0, "report_share": 0.0}  # nothing is held out
AS_OF = NOON + timedelta(days=1)


def make_settings(**overrides: Any) -> FeedbackSettings:
    """Holds nothing out and keeps everything, unless told otherwise."""
    return FeedbackSettings(**{"keep_days": 10**6, "snapshot_processes": 1, **EVERYTHING, **overrides})


def opened_envelope(name: str, **overrides: Any) -> Envelope:
    """An envelope whose body has been opened already."""
    fields: dict[str, Any] = {
        "event_id": event_id(name), "occurred_at": NOON, "tenant": TENANT, "rater": "rater-1",
        "consent": Consent(train=True), "key_id": "key", "sealed": b"",
    }  # fmt: skip
    return Envelope.model_validate({**fields, **overrides})


def make_answered(body: Inference | None = None, name: str | None = None, **envelope: Any) -> Answered:
    body = body or make_inference()
    name = name or f"inference {body.response_id}"
    return Answered(opened_envelope(name, **envelope), body, Position(INFERENCE_TOPIC, 0, 0))


def make_vote(body: Feedback | None = None, name: str = "vote", **envelope: Any) -> Vote:
    return Vote(opened_envelope(name, **envelope), body or make_feedback(), Position(FEEDBACK_TOPIC, 0, 0))


def make_judgements(votes: Iterable[Vote], answered: Iterable[Answered]) -> list[Judgement]:
    """As the join makes them; raises where one of the votes cannot be joined."""
    exchanges = {event.body.response_id: make_exchange(event) for event in answered}
    found, lost = join(votes, Answers(exchanges), ALIAS)
    if lost:
        raise ValueError(f"not joined: {dict(lost)}")
    return found


def make_judgement(
    body: Feedback | None = None, *, texts: Sequence[str] = ("Good answer.", "Bad answer."), name: str = "vote",
    prompt: str = "What does math.cos do?", inference: dict[str, Any] | None = None, **envelope: Any,
) -> Judgement:  # fmt: skip
    """A comparison of r1 (the first text) and r2 (the second), unless told otherwise; r3, r4 have the others."""
    answered = [
        make_answered(make_inference(f"r{at}", prompt=prompt, texts=[text], **(inference or {})))
        for at, text in enumerate(texts, start=1)
    ]
    return make_judgements([make_vote(body or make_comparison(), name, **envelope)], answered)[0]


def make_exchanges(*bodies: Inference, **envelope: Any) -> list[Exchange]:
    made = [make_exchange(make_answered(body, **envelope)) for body in bodies]
    return [one for one in made if isinstance(one, Exchange)]


@dataclass(frozen=True, slots=True)
class Event:
    """A body with what its envelope is to say."""

    body: Inference | Feedback | Erasure
    name: str
    header: dict[str, Any] = field(default_factory=dict)


def a_days_events(pairs: int = 20, raters: int = 5, seed: int = 0) -> list[Event]:
    """Chats in twos with the same question, each pair compared, some also rated or corrected."""
    rng = random.Random(seed)
    events: list[Event] = []
    for at in range(pairs):
        header = {"rater": f"rater-{at % raters}", "occurred_at": moment(60 * at)}
        a, b = f"r{at}a", f"r{at}b"
        for response, text in ((a, f"Answer number {at}."), (b, f"Perhaps the answer is {at}, perhaps not.")):
            chat = make_inference(response, prompt=f"Question {at}?", texts=[text])
            events.append(Event(chat, f"inference {response}", header))
        choice = rng.choice(["a", "a", "b", "tie", "both_bad"])
        events.append(Event(make_comparison(a, b, choice), f"comparison {at}", header))
        if at % 4 == 0:
            events.append(Event(make_feedback(b, value=False), f"thumb {at}", header))
        if at % 5 == 0:
            fix = make_feedback(b, kind="correction", name="correction", value=f"It is {at}.")
            events.append(Event(fix, f"correction {at}", header))
    return events


def a_messy_days_events(chats: int = 10, raters: int = 4, seed: int = 0) -> list[Event]:
    """As `a_days_events`, but people change their minds and take votes back, clients send twice, consent varies."""
    rng, events = random.Random(seed), list[Event]()
    for at in range(chats):
        header: dict[str, Any] = {"rater": f"rater-{at % raters}", "occurred_at": moment(60 * at)}
        for response in (a := f"r{at}a", b := f"r{at}b"):
            for copy in ("", " again")[: rng.choice([1, 1, 2])]:  # two events of one response
                sent = {**header, "occurred_at": moment(60 * at + rng.random())}
                chat = make_inference(response, prompt=f"Question {at % 8}?", texts=[f"{response}{copy}."])
                events.append(Event(chat, f"inference {response}{copy}", sent))
        for turn in range(3):
            said = Consent(train=rng.random() < 0.8, explicit=rng.random() < 0.3)
            cast = {**header, "occurred_at": moment(60 * at + 10 + turn), "consent": said}
            resent = rng.choice([0, turn])  # under the key of the first turn's vote
            choice, thumb = rng.choice(["a", "b", "tie", "both_bad", None]), rng.choice([True, False, None])
            events.append(Event(make_comparison(a, b, choice), f"comparison {at} {turn}", cast))
            events.append(Event(make_feedback(a, value=thumb), f"thumb {at} {resent}", cast))
            events.append(Event(make_ranking([a], [b]), f"ranking {at} {turn}", cast))
    return events


@dataclass
class Room:
    """Everything on one directory; close it."""

    home: Path
    database: Database
    sealer: Sealer
    eventlog: EventLog
    metrics: Metrics = field(default_factory=lambda: Metrics(CollectorRegistry()))
    stop: threading.Event = field(default_factory=threading.Event)

    def append(self, events: Iterable[Event]) -> None:
        """Onto the log, in this order, durable when it returns."""
        self.append_raw(
            (topic_of(e.body), key_of(e.body), make_envelope(self.sealer, e.body, e.name, **e.header)) for e in events
        )

    def append_raw(self, records: Iterable[tuple[str, str, Envelope | bytes]]) -> None:
        producer = self.eventlog.producer()
        for topic, key, value in records:
            encoded = value if isinstance(value, bytes) else value.model_dump_json().encode()
            producer.append(topic, key, encoded)
        producer.close()

    def consume(self, *, batch_size: int = 500) -> int:
        """Until the log has nothing more; returns how many records that were."""
        producer, consumer = self.eventlog.producer(), self.eventlog.consumer(GROUP, TOPICS)
        loop = Loop(self.intake(producer), consumer, self.stop, batch_size=batch_size, poll_s=0.01)
        total = 0
        while count := loop.turn():
            total += count
        loop.close()
        consumer.close()
        producer.close()
        return total

    def erase(self, rater: str, up_to: datetime | None = None, name: str = "erasure") -> str:
        """As a gateway does it: the event, then the key; what follows is the consumer's. Returns the erasure's id."""
        body = make_erasure(name, rater, up_to)
        self.append([Event(body, name, {"rater": None, "event_id": body.erasure_id, "occurred_at": now()})])
        self.sealer.forget(TENANT, rater, body.up_to)
        return body.erasure_id.hex

    def eraser(self, **settings: Any) -> Eraser:
        scratch = self.home / "snapshots"
        return Eraser(self.database, self.sealer, self.artifacts, scratch, make_settings(**settings), lease_ttl_s=5.0)

    def intake(self, producer: Any) -> Intake:
        return Intake(self.database, self.sealer, producer, self.artifacts, self.metrics)

    def cutter(self, **overrides: Any) -> Cutter:
        return Cutter(self.eventlog, self.stop, **{"timeout_s": 5.0, "spool_s": 0.2, **overrides})

    def snapshots(self, **settings: Any) -> Snapshots:
        return Snapshots(self.database, self.sealer, self.artifacts, self.home / "snapshots", make_settings(**settings))

    def build(self, *, as_of: datetime = AS_OF, alias: str = ALIAS, **settings: Any) -> DatasetManifest:
        """A dataset of everything that is stored."""
        order = Order(TENANT, alias, as_of=as_of, cut=self.eventlog.end_offsets(TOPICS))
        return self.snapshots(**settings).build(order)

    @property
    def artifacts(self) -> ArtifactStore:
        return ArtifactStore(str(self.home / "artifacts"))

    def close(self) -> None:
        self.database.close()
        self.eventlog.close()


def make_room(home: Path) -> Room:
    put_database(home)
    database = open_database(sqlite_url(home / "state.db"))
    return Room(home, database, make_sealer(home), SqliteEventLog(home / "log.db", 2))
