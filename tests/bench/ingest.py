"""Events a second from Kafka into PostgreSQL, beside what kafka-python alone can read: `make bench-ingest`.

The mix is real: sealed answers with tokens and log-probabilities, a thumb for each, a comparison for every two, joined
and validated. Servers of its own on free ports; every figure is of one run on one machine, saved together.

Two peers: `bare` is kafka-python as it is installed by itself, with a checksum in pure Python, `bare_crc32c` has the
package for it that we install too. `ratio` and `ratio_crc32c` are what one consumer process stores beside them.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.progress import track

from feedback.intake.decode import TOPICS
from infra.console import err, print_json, print_table
from infra.contracts.events import DEAD_LETTER_TOPIC, Feedback, Inference
from infra.database.engine import open_database
from infra.database.migrate import migrate
from infra.eventlog.base import Position
from infra.eventlog.kafka import Connection, KafkaEventLog
from infra.services.local import Services, free_ports, local_services
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
from tests.support.servers import fresh_database

ANSWER_TOKENS = 60
IN_FLIGHT = 1000  # records not acknowledged yet: what waits longer than the producer's delivery time has failed
RATERS = 500
RESULT = Path(".thumbwheel/bench/ingest.json")
PEERS = ("bare", "bare_crc32c")
WORKER = "tests.bench.ingest_worker"
WITHOUT_CRC32C = f"import runpy, sys; sys.modules['crc32c'] = None; runpy.run_module({WORKER!r}, run_name='__main__')"
PLANS = ((1, 1), (2, 1), (4, 1), (2, 2), (4, 2), (4, 4))  # partitions, consumer processes


@dataclass(frozen=True, slots=True)
class Place:
    """Where one run's events are: the servers, the state directory with the keyring, and the topics' prefix."""

    services: Services
    home: Path
    prefix: str
    partitions: int
    events: int

    @property
    def log(self) -> KafkaEventLog:
        return KafkaEventLog(Connection([self.services.kafka.address], self.prefix), self.partitions)


def bodies(events: int) -> Iterator[Inference | Feedback]:
    """Two answers, a thumb for each, and a comparison of both, over and over."""
    tokens = {"token_ids": list(range(ANSWER_TOKENS)), "logprobs": [-0.123456789] * ANSWER_TOKENS}
    for at in range(0, events * 2 // 5, 2):
        for response in (f"r{at}", f"r{at + 1}"):
            choice = make_choice(f"Answer {response}. " + "It returns the cosine of x. " * 8, **tokens)
            yield make_inference(response, prompt=f"Question {at}: what is it for?", choices=[choice])
            yield make_feedback(response)
        yield make_comparison(f"r{at}", f"r{at + 1}")


def fill(place: Place) -> dict[str, float]:
    """Appends everything; returns the rate of the producer and the mean size of a record."""
    sealer = make_sealer(place.home)
    made = [
        (
            topic_of(body),
            key_of(body),
            make_envelope(sealer, body, rater=f"rater-{at % RATERS}").model_dump_json().encode(),
        )
        for at, body in enumerate(bodies(place.events))
    ]
    log = place.log
    log.prepare(dict.fromkeys((*TOPICS, DEAD_LETTER_TOPIC), 1.0))
    producer, began = log.producer(), time.perf_counter()
    waiting = deque[Future[Position]]()
    for record in made:
        if len(waiting) == IN_FLIGHT:
            waiting.popleft().result(timeout=60)
        waiting.append(producer.append(*record))
    for done in waiting:
        done.result(timeout=60)
    rate = len(made) / (time.perf_counter() - began)
    producer.close()
    log.close()
    return {"produced_per_s": rate, "bytes_per_event": sum(len(value) for _, _, value in made) / len(made)}


def consume(place: Place, role: str, processes: int, *, profile: Path | None = None) -> dict[str, Any]:
    """So many worker processes share the topics; the rate is of all of them, from the first batch to the last."""
    url = fresh_database(place.services.postgres)
    database = open_database(url)
    migrate(database)
    environ = {**os.environ, "BENCH_KAFKA": place.services.kafka.address, "BENCH_DATABASE": url}
    if profile:
        environ["BENCH_PROFILE"] = str(profile)
    program = ["-c", WITHOUT_CRC32C] if role == "bare" else ["-m", WORKER]
    argv = [sys.executable, *program, role, str(place.home), place.prefix, str(place.partitions), str(place.events)]
    workers = [subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    spans = [json.loads(worker.communicate()[0]) for worker in workers]
    worked = [span for span in spans if span["events"]]
    seconds = max(span["last_at"] for span in worked) - min(span["first_at"] for span in worked)
    events = sum(span["events"] for span in worked)
    if role == "stored":
        _check(database, place.events)
    database.close()
    cpu = sum(span["cpu_s"] for span in worked)
    return {"events": events, "seconds": round(seconds, 3), "per_s": round(events / seconds, 1), "cpu_s": round(cpu, 2)}


def _check(database: Any, events: int) -> None:
    """Everything once, and every vote joined."""
    with database.engine.connect() as connection:
        stored = sum(
            connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()
            for table in ("inferences", "vote_events")
        )
        waiting = connection.exec_driver_sql("SELECT count(*) FROM votes WHERE status <> 'joined'").scalar()
    if stored != events:
        raise SystemExit(f"{stored} of {events} events were stored")
    err().print(f"{stored} stored, {waiting} votes not joined yet")


def measure(services: Services, home: Path, events: int, plans: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Each run has topics of its own, filled anew: its group begins with the first offset."""
    runs, produced = [], dict[str, float]()
    for partitions, processes in track(plans, description="ingest", console=err()):
        place = Place(services, home, f"run{len(runs)}.", partitions, events)
        produced = fill(place)
        rates = {role: consume(place, role, processes if role == "stored" else 1) for role in (*PEERS, "stored")}
        runs.append({"partitions": partitions, "processes": processes, **rates})
    return _summary(runs, produced)


def _summary(runs: list[dict[str, Any]], produced: dict[str, float]) -> dict[str, Any]:
    for run in runs:
        run["ratio"], run["ratio_crc32c"] = (round(run["stored"]["per_s"] / run[peer]["per_s"], 3) for peer in PEERS)
    alone = {run["partitions"]: run for run in runs if run["processes"] == 1}
    for run in runs:
        run["speedup"] = round(run["stored"]["per_s"] / alone[run["partitions"]]["stored"]["per_s"], 2)
    ratios = {name: statistics.median(run[name] for run in alone.values()) for name in ("ratio", "ratio_crc32c")}
    return {**ratios, "cores": os.cpu_count(), **produced, "runs": runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--profile", type=Path, help="also profile one consumer, into this file for pstats")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="thumbwheel-bench-") as directory:
        home = Path(directory)
        home.chmod(0o711)
        services = local_services(home, free_ports(), bound=True)
        try:
            services.kafka.start()
            services.postgres.start()
            found = measure(services, home, options.events, PLANS)
            if options.profile:
                place = Place(services, home, "profile.", 1, options.events)
                fill(place)
                consume(place, "stored", 1, profile=options.profile.absolute())
        finally:
            services.stop()
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    if options.json:
        print_json(found)
        return
    rates = [
        (*(run[name]["per_s"] for name in (*PEERS, "stored")), run["ratio"], run["ratio_crc32c"], run["speedup"])
        for run in found["runs"]
    ]
    rows = [(run["partitions"], run["processes"], *rate) for run, rate in zip(found["runs"], rates, strict=True)]
    print_table(
        (
            "partitions",
            "processes",
            "kafka-python/s",
            "with crc32c/s",
            "stored/s",
            "ratio",
            "ratio, crc32c",
            "speed-up",
        ),
        rows,
    )


if __name__ == "__main__":
    main()
