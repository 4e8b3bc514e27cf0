"""One consumer process of the ingest benchmark, started by it with role, home, prefix, partitions and events.

The roles `bare` and `bare_crc32c` only read the log with kafka-python; `stored` is the product's own loop: read,
validate, join, store. Prints a JSON line: how many events this process handled, when the first batch came and when the
last one was done.
"""

import cProfile
import json
import os
import pstats
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import structlog
from kafka import KafkaConsumer
from prometheus_client import CollectorRegistry

from feedback.intake.consumer import GROUP, Intake, Loop, lag
from feedback.intake.decode import TOPICS
from feedback.metrics import Metrics
from infra.artifacts import ArtifactStore
from infra.database.engine import open_database
from infra.eventlog.kafka import Connection, KafkaEventLog
from tests.support.events import make_sealer

BATCH = 2000
QUIET_S = 1.0  # without records: another process has the rest


@dataclass(frozen=True, slots=True)
class Span:
    events: int
    first_at: float
    last_at: float
    cpu_s: float


def bare(servers: str, prefix: str, events: int) -> Span:
    """As fast as kafka-python hands out records: no group, no decoding."""
    names = [prefix + topic for topic in TOPICS]
    client = KafkaConsumer(
        *names, bootstrap_servers=servers, group_id=None, auto_offset_reset="earliest", max_poll_records=BATCH
    )
    done, first, cpu = 0, 0.0, 0.0
    while done < events:
        found = client.poll(timeout_ms=1000)
        if found and not first:
            first, cpu = time.time(), time.process_time()
        done += sum(len(records) for records in found.values())
    span = Span(done, first, time.time(), time.process_time() - cpu)
    client.close()
    return span


def stored(home: Path, log: KafkaEventLog, url: str) -> Span:
    """Until the whole group has nothing left to do."""
    database, producer = open_database(url), log.producer()
    intake = Intake(
        database, make_sealer(home), producer, ArtifactStore(str(home / "artifacts")), Metrics(CollectorRegistry())
    )
    loop = Loop(intake, log.consumer(GROUP, TOPICS), threading.Event(), batch_size=BATCH, poll_s=0.05)
    done, first, last, cpu = 0, 0.0, 0.0, 0.0
    while True:
        began = time.time()
        count = loop.turn()
        if count:
            first, last, done = first or began, time.time(), done + count
            cpu = cpu or time.process_time()
        elif (done or time.time() - last > QUIET_S) and lag(log) == 0:
            break
    span = Span(done, first, last, time.process_time() - cpu)
    loop.close()
    loop.consumer.close()
    producer.close()
    database.close()
    return span


def main(role: str, home: Path, prefix: str, partitions: int, events: int) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    servers = os.environ["BENCH_KAFKA"]
    if role.startswith("bare"):
        span = bare(servers, prefix, events)
    else:
        log = KafkaEventLog(Connection([servers], prefix), partitions)
        profile = cProfile.Profile() if "BENCH_PROFILE" in os.environ else None
        span = (
            profile.runcall(stored, home, log, os.environ["BENCH_DATABASE"])
            if profile
            else stored(home, log, os.environ["BENCH_DATABASE"])
        )
        log.close()
        if profile:
            pstats.Stats(profile).dump_stats(os.environ["BENCH_PROFILE"])
    sys.stdout.write(json.dumps({name: getattr(span, name) for name in Span.__slots__}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
