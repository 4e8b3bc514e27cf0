"""Carries out one fault, and returns when it was over: from then on the stack has to heal by itself."""

import random
import time
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select

from feedback.tables import InferenceRow, VoteEventRow
from infra.clock import now
from infra.contracts.events import FEEDBACK_TOPIC, INFERENCE_TOPIC, Consent, Feedback
from infra.envelopes import Header
from infra.eventlog.base import Position
from infra.home import TENANT
from tests.chaos.books import Books, Cast
from tests.chaos.crowd import Crowd
from tests.chaos.faults import Action, Fault
from tests.chaos.stage import Stage, wait_until
from tests.chaos.victims import Victim, pause, resume

FILL_TIMEOUT_S = 180.0
ACK_TIMEOUT_S = 60.0
REPEATED = 8  # records of each topic that come once more
REORDERED = 8


@dataclass(frozen=True)
class Striker:
    """Does one thing to one victim, or to the log where there is no victim; `rng` is this fault's own."""

    stage: Stage
    crowd: Crowd
    rng: random.Random

    @property
    def books(self) -> Books:
        return self.crowd.books

    def victim(self, fault: Fault) -> Victim | None:
        """Who is struck: one of those that bear the name."""
        found = self.stage.victims.get(fault.target)
        return self.rng.choice(found) if found else None

    def strike(self, fault: Fault, victim: Victim | None) -> float:
        """Returns the time at which nothing was done to the stack any more."""
        began = time.monotonic()
        if victim is not None:
            self._strike(fault, victim)
        else:
            deeds = {Action.FILL: self._fill, Action.DUPLICATE: self._duplicate, Action.REORDER: self._reorder}
            deeds[fault.action]()
        return time.monotonic() if fault.action in (Action.STOP, Action.FILL) else began

    def _strike(self, fault: Fault, victim: Victim) -> None:
        if fault.action is Action.STOP:
            self._stop(victim, fault.seconds)
        elif fault.action is Action.KILL:
            victim.kill()
        else:
            victim.restart()

    def _stop(self, victim: Victim, seconds: float) -> None:
        members = victim.members()
        pause(members)
        try:
            time.sleep(seconds)  # what is waited for is the time itself
        finally:
            resume(members)

    def _fill(self) -> None:
        """Kafka is away, and everybody votes, until a vote is refused: then there is room for none."""
        kafka, refused = self.stage.services.kafka, len(self.books.refused)
        kafka.stop()
        self.crowd.filling.set()
        try:
            wait_until(
                lambda: len(self.books.refused) > refused, timeout_s=FILL_TIMEOUT_S, what="the full spool answers 503"
            )
        finally:
            self.crowd.filling.clear()
            kafka.start()

    def _duplicate(self) -> None:
        """As a producer does that never heard of its first try's success."""
        log = self.stage.ports.eventlog
        records = [record for at in self._stored() if (record := log.read(at))]
        with closing(log.producer()) as producer:
            twice = self.rng.sample(records * 2, 2 * len(records))
            wait_for([producer.append(record.position.topic, record.key, record.value) for record in twice])

    def _reorder(self) -> None:
        """As another gateway does whose spool was shipped late: the later word of each comes first."""
        began = time.monotonic()
        with closing(self.stage.ports.eventlog.producer()) as producer:
            for number in range(REORDERED):
                rater, response_id = f"late-{time.monotonic_ns()}-{number}", self.rng.choice(self.books.answered)
                words = [self._word(rater, response_id, value, age_s) for value, age_s in ((False, 0.5), (True, 0.0))]
                wait_for([producer.append(FEEDBACK_TOPIC, response_id, body) for _, body in reversed(words)])
                self.books.casts.extend(
                    Cast(rater, response_id, value, event_id, "log", began)
                    for (event_id, _), value in zip(words, (False, True), strict=True)
                )

    def _word(self, rater: str, response_id: str, value: bool, age_s: float) -> tuple[str, bytes]:
        """A vote's event id and its bytes."""
        header = Header(
            tenant=TENANT, rater=self.stage.ports.identity.rater(TENANT, rater), consent=Consent(train=True),
            occurred_at=now() - timedelta(seconds=age_s),
        )  # fmt: skip
        body = Feedback(kind="thumbs", name="thumbs", response_id=response_id, value=value)
        envelope = self.stage.ports.sealer.wrap(body, header)
        return str(envelope.event_id), envelope.model_dump_json().encode()

    def _stored(self) -> list[Position]:
        """Where some of the events of either topic stand on the log."""
        found = []
        with self.stage.ports.database.reading() as session:
            for topic, row in ((FEEDBACK_TOPIC, VoteEventRow), (INFERENCE_TOPIC, InferenceRow)):
                places = session.execute(select(row.log_partition, row.log_offset)).all()
                chosen = self.rng.sample(places, min(REPEATED, len(places)))
                found += [Position(topic, partition, offset) for partition, offset in chosen]
        return found


def wait_for(sent: list["Future[Position]"]) -> None:
    """Raises LogUnavailable."""
    for future in sent:
        future.result(timeout=ACK_TIMEOUT_S)
