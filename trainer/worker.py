"""Composition root of the trainer worker: Celery with threads, a timer that sends the sweep, health. No torch here."""

import sys
import threading
from collections.abc import Sequence

import structlog
from celery import Celery, signals
from kombu.exceptions import OperationalError
from sqlalchemy.exc import SQLAlchemyError

from infra.contracts.tasks import SWEEP
from infra.database.schema import SchemaMismatch, await_schema
from infra.http import Health
from infra.logs import configure_logging
from infra.ports import Ports
from infra.processes import announce
from infra.settings import SettingsError, load_settings
from trainer.launch import Launcher
from trainer.metrics import Metrics
from trainer.tasks import make_app

log = structlog.get_logger()

USAGE = 2  # the exit code for what only a person can mend
THREADS = 4  # one trains; the others sweep and score meanwhile


class Timer:
    """Sends the sweep every `every_s` until it is closed, whatever happens to the broker meanwhile.

    Over a connection of its own: those of Celery's pool are torn down by the worker's thread when the broker is lost.
    """

    def __init__(self, app: Celery, every_s: float, stop: threading.Event) -> None:
        self._app, self._every_s, self._stop = app, every_s, stop
        self._thread = threading.Thread(target=self._run, name="timer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self._send()
            except OperationalError as error:  # the next one may get through
                log.warning("broker_away", error=str(error))
            except Exception:
                log.exception("sweep_not_sent")

    def _send(self) -> None:
        with self._app.connection_for_write() as connection:
            expires_s = max(10.0, 5 * self._every_s)
            self._app.send_task(SWEEP, expires=expires_s, ignore_result=True, connection=connection)


def main() -> int:
    try:
        settings = load_settings()
        ports = Ports(settings)
        await_schema(ports.database)
    except (SettingsError, SchemaMismatch) as error:
        sys.stderr.write(f"trainer: {error}\n")
        return USAGE
    configure_logging(settings.infra, process="trainer")
    stop = threading.Event()
    app = make_app(ports, Launcher(ports, stop, metrics=Metrics()))
    health = Health({"database": lambda: _reach(ports)}, port=settings.trainer.port)
    timer = Timer(app, settings.trainer.sweep_s, stop)
    signals.worker_shutting_down.connect(lambda **_: stop.set(), weak=False)
    health.start()
    timer.start()
    announce(settings.home, "trainer", health.address)
    log.info("worker_started", address=health.address)
    try:
        return serve(app, settings.trainer.worker_queues)
    finally:
        timer.close()
        health.close()
        ports.close()


def serve(app: Celery, queues: Sequence[str]) -> int:
    """Until SIGTERM; a training under way is ended by the stop event and goes on with the next worker."""
    worker = app.Worker(
        queues=list(queues),
        pool="threads",
        concurrency=THREADS,
        loglevel="WARNING",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def _reach(ports: Ports) -> None:
    """Raises RuntimeError where the database does not answer."""
    try:
        with ports.database.reading() as session:
            session.connection().exec_driver_sql("SELECT 1")
    except SQLAlchemyError as error:
        raise RuntimeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
