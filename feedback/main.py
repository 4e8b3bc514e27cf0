"""Composition root of the feedback process: consumes events, builds the datasets of cycles, says how it is."""

import argparse
import contextvars
import re
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from sqlalchemy.exc import SQLAlchemyError

from feedback.cases import CaseMaker
from feedback.datasets.builder import Builder
from feedback.datasets.cut import Cutter
from feedback.datasets.redaction import Redactor
from feedback.datasets.snapshot import Snapshots
from feedback.errors import Stopping
from feedback.housekeeping import Housekeeping
from feedback.intake.consumer import GROUP, Intake, Loop
from feedback.intake.decode import TOPICS
from feedback.metrics import Metrics
from feedback.rights.eraser import Eraser
from feedback.rights.exporter import Exporter
from feedback.shadows.judge import ShadowJudge
from feedback.shadows.scoring import Scorer
from feedback.shadows.waiting import Waiting
from feedback.tallying.reading import Reader
from feedback.tallying.tallier import Tallier
from feedback.tracing.tracing import Tracing
from feedback.tracing.wishes import Tracer
from infra.database.schema import SchemaMismatch, await_schema
from infra.http import Health
from infra.logs import configure_logging
from infra.ports import Ports
from infra.processes import announce
from infra.settings import Settings, SettingsError, load_settings

log = structlog.get_logger()
HOUSEKEEPING_S = 5.0
BUILDER_S = 0.2
TALLY_S = 1.0  # between two looks for news of a rollout
SHADOWS_S = 20.0  # between two batches for the judge of mirrored answers: each of them loads it
JUDGE_WAIT_S = 600.0  # then a batch is given up, and tried again
TRACER_S = 0.2  # somebody waits for the answer
CASES_S = 0.5  # between two looks for an answer to make a regression case of
RIGHTS_S = 0.5  # between two looks for somebody to erase, or to export
USAGE = 2  # the exit code for what only a person can mend
AFTER_ERROR_S = 1.0  # before a loop that broke goes on


@dataclass
class Repeater:
    """A thread that does one thing over and over until `stop`, and outlives its errors."""

    name: str
    turn: Callable[[], object]
    every_s: float
    stop: threading.Event
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        context = contextvars.copy_context()  # what every line of this process' log says
        self.thread = threading.Thread(target=context.run, args=(self._run,), name=self.name)

    def _run(self) -> None:
        pause = 0.0
        while not self.stop.wait(pause):
            try:
                self.turn()
                pause = self.every_s
            except Stopping:
                return
            except Exception:
                log.exception("turn_failed", loop=self.name)
                pause = max(self.every_s, AFTER_ERROR_S)


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    stop = threading.Event()
    try:
        settings = load_settings()
        ports = Ports(settings)
        await_schema(ports.database)
    except (SettingsError, SchemaMismatch) as error:
        sys.stderr.write(f"feedback: {error}\n")
        return USAGE
    configure_logging(settings.infra, process=options.name)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        serve(ports, settings, stop, options.name)
    finally:
        ports.close()
    return 0


def serve(ports: Ports, settings: Settings, stop: threading.Event, name: str) -> None:
    """Until `stop`: then the batch under way is stored, and a snapshot under way is left to the next process."""
    metrics = Metrics()
    producer, consumer = ports.eventlog.producer(), ports.eventlog.consumer(GROUP, TOPICS)
    loop = Loop(
        Intake(ports.database, ports.sealer, producer, ports.artifacts, metrics), consumer, stop,
        batch_size=settings.feedback.batch_size, poll_s=settings.feedback.poll_s,
    )  # fmt: skip
    keeping = Housekeeping(ports.database, ports.eventlog, ports.artifacts, metrics, settings)
    checks = {"database": lambda: reach(ports), "event log": lambda: reach_log(ports)}
    health = Health(checks, port=port_of(settings.feedback.port, name))
    repeaters = [
        Repeater("consumer", loop.turn, 0.0, stop),
        Repeater("builder", make_builder(ports, settings, metrics, stop).turn, BUILDER_S, stop),
        Repeater("housekeeping", keeping.turn, HOUSEKEEPING_S, stop),
        Repeater("eraser", make_eraser(ports, settings).turn, RIGHTS_S, stop),
        Repeater("exporter", make_exporter(ports, settings).turn, RIGHTS_S, stop),
        Repeater("tallier", make_tallier(ports, settings, stop).turn, TALLY_S, stop),
        Repeater("shadows", make_shadow_judge(ports, settings, metrics, stop).turn, SHADOWS_S, stop),
        Repeater("tracer", make_tracer(ports, settings).turn, TRACER_S, stop),
        Repeater("cases", make_case_maker(ports, settings).turn, CASES_S, stop),
    ]
    health.start()
    for repeater in repeaters:
        repeater.thread.start()
    announce(settings.home, name, health.address)
    log.info("feedback_started", address=health.address)
    stop.wait()
    for repeater in repeaters:
        repeater.thread.join()
    loop.close()
    consumer.close()
    producer.close()
    health.close()
    log.info("feedback_stopped")


def make_builder(ports: Ports, settings: Settings, metrics: Metrics, stop: threading.Event) -> Builder:
    return Builder(
        ports.database,
        make_snapshots(ports, settings),
        make_cutter(ports, stop),
        metrics,
        settings.infra.lease_ttl_s,
    )


def make_eraser(ports: Ports, settings: Settings) -> Eraser:
    return Eraser(
        ports.database, ports.sealer, ports.artifacts, scratch_of(settings), settings.feedback,
        settings.infra.lease_ttl_s,
    )  # fmt: skip


def make_exporter(ports: Ports, settings: Settings) -> Exporter:
    return Exporter(ports.database, ports.sealer, ports.artifacts, settings.infra.lease_ttl_s)


def make_tallier(ports: Ports, settings: Settings, stop: threading.Event) -> Tallier:
    reader = Reader(ports.database, ports.sealer)
    return Tallier(ports.database, reader, ports.artifacts, settings.infra.lease_ttl_s, stop)


def make_shadow_judge(
    ports: Ports, settings: Settings, metrics: Metrics, stop: threading.Event, wait_s: float = JUDGE_WAIT_S
) -> ShadowJudge:
    redactor = Redactor(settings.feedback.redact_region or None) if settings.feedback.redact_pii else None
    return ShadowJudge(
        ports.database, ports.artifacts, Waiting(ports.database, ports.sealer, redactor),
        Scorer(settings, ports.artifacts, stop, wait_s).scores, metrics, settings.infra.lease_ttl_s,
    )  # fmt: skip


def make_tracer(ports: Ports, settings: Settings) -> Tracer:
    return Tracer(ports.database, make_tracing(ports), settings.infra.lease_ttl_s)


def make_case_maker(ports: Ports, settings: Settings) -> CaseMaker:
    chosen = settings.feedback
    redactor = Redactor(chosen.redact_region or None) if chosen.redact_pii else None
    return CaseMaker(ports.database, ports.sealer, redactor)


def make_tracing(ports: Ports) -> Tracing:
    return Tracing(ports.database, ports.sealer, ports.artifacts)


def make_cutter(ports: Ports, stop: threading.Event) -> Cutter:
    return Cutter(ports.eventlog, stop, ports.settings.feedback.cut_timeout_s)


def make_snapshots(ports: Ports, settings: Settings) -> Snapshots:
    return Snapshots(ports.database, ports.sealer, ports.artifacts, scratch_of(settings), settings.feedback)


def scratch_of(settings: Settings) -> Path:
    return settings.home / "snapshots"


def port_of(first: int, name: str) -> int:
    """`first` plus the number of the process, or any free one where `first` is 0."""
    number = re.search(r"\d+$", name)
    return first + int(number[0]) if first and number else first


def reach(ports: Ports) -> None:
    """Raises RuntimeError where the database does not answer."""
    try:
        with ports.database.reading() as session:
            session.connection().exec_driver_sql("SELECT 1")
    except SQLAlchemyError as error:
        raise RuntimeError(str(error)) from error


def reach_log(ports: Ports) -> None:
    """Raises RuntimeError where the event log does not answer."""
    try:
        ports.eventlog.end_offsets(TOPICS)
    except sqlite3.Error as error:
        raise RuntimeError(str(error)) from error


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m feedback.main", description=__doc__)
    parser.add_argument("--name", default="feedback", help="the process' name, for example feedback-1")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
