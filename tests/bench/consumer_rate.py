"""How many events a second one consumer stores: chats and votes, sealed, in SQLite. Run it by hand:

.venv/bin/python -m tests.bench.consumer_rate [events]
"""

import sys
import tempfile
import threading
import time
from pathlib import Path

from prometheus_client import CollectorRegistry

from feedback.consumer import GROUP, Intake, Loop
from feedback.decode import TOPICS
from feedback.metrics import Metrics
from infra.contracts.events import Feedback, Inference
from infra.database.engine import open_database, sqlite_url
from infra.database.migrate import migrate
from infra.eventlog.sqlite import SqliteEventLog
from tests.support.events import (
    key_of,
    make_choice,
    make_comparison,
    make_envelope,
    make_feedback,
    make_inference,
    make_sealer,
    topic_of,
)

ANSWER_TOKENS = 60
RATERS = 50


def bodies(chats: int) -> list[Inference | Feedback]:
    """Two chats, a thumb for each, and a comparison of both, over and over."""
    tokens = {"token_ids": list(range(ANSWER_TOKENS)), "logprobs": [-0.123456789] * ANSWER_TOKENS}
    made: list[Inference | Feedback] = []
    for at in range(0, chats, 2):
        for response in (f"r{at}", f"r{at + 1}"):
            choice = make_choice(f"Answer {response}. " + "It returns the cosine of x. " * 8, **tokens)
            made.append(make_inference(response, prompt=f"Question {at}: what is it for?", choices=[choice]))
            made.append(make_feedback(response))
        made.append(make_comparison(f"r{at}", f"r{at + 1}"))
    return made


def main(events: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory)
        sealer, eventlog = make_sealer(home), SqliteEventLog(home / "log.db", 4)
        database = open_database(sqlite_url(home / "state.db"))
        migrate(database)
        producer = eventlog.producer()
        sizes = []
        for number, body in enumerate(bodies(events * 2 // 5)):
            value = make_envelope(sealer, body, rater=f"rater-{number % RATERS}").model_dump_json().encode()
            sizes.append(len(value))
            producer.append(topic_of(body), key_of(body), value)
        producer.close()
        intake = Intake(database, sealer, producer, Metrics(CollectorRegistry()))
        consumer = eventlog.consumer(GROUP, TOPICS)
        loop = Loop(intake, consumer, threading.Event(), batch_size=500, poll_s=0.1)
        start, cpu, done = time.perf_counter(), time.process_time(), 0
        while count := loop.turn():
            done += count
        wall = time.perf_counter() - start - 0.1
        cpu = time.process_time() - cpu
        consumer.close()
        size = sum(sizes) / len(sizes)
        sys.stdout.write(f"{done} events of {size:.0f} bytes: {done / wall:.0f}/s, {done / cpu:.0f} per CPU second\n")
        database.close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
