"""The trainer's `score` task, asked by its name: waited for, for so long and no longer."""

import json
import math
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field

from celery import Celery, states
from celery.result import AsyncResult
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from feedback.errors import NotScored, Stopping
from infra.artifacts import ArtifactStore, MissingArtifact
from infra.celery_app import make_celery
from infra.contracts.tasks import SCORE
from infra.settings import Settings

POLL_S = 0.2
AWAY = (OperationalError, RedisError, OSError)  # of the broker, and of where results are kept
RETRIES = {"retry_policy": {"max_retries": 2}}  # Celery's own twenty would hold up a process that is to end


@dataclass
class Scorer:
    settings: Settings
    artifacts: ArtifactStore
    stop: threading.Event
    wait_s: float
    _app: Celery | None = field(default=None, init=False)

    def scores(self, judge: str, path: str, size: int) -> list[float]:
        """One number for each conversation in the file. Raises NotScored, or Stopping when the process is to end."""
        asked = self._send(judge, path)
        try:
            state = self._await(asked)
            with suppress(FileNotFoundError):  # it has left no result
                asked.forget()
        except AWAY as error:
            raise self._away() from error
        if state != states.SUCCESS:
            raise NotScored("failed" if state == states.FAILURE else "timed_out")
        return self._read(f"{path}.scores.json", size)

    def _send(self, judge: str, path: str) -> "AsyncResult[str]":
        """Celery says RuntimeError where it can't listen for the result."""
        if self._app is None:
            self._app = make_celery(self.settings)
            self._app.conf.result_backend_transport_options = RETRIES
        try:
            with self._app.connection_for_write() as connection:
                return self._app.send_task(SCORE, (judge, path), expires=self.wait_s, connection=connection)
        except (*AWAY, RuntimeError) as error:
            raise self._away() from error

    def _away(self) -> NotScored:
        """A Celery app that has lost its results never finds them again: the next question gets a new one."""
        self._app = None
        return NotScored("broker_away")

    def _await(self, asked: "AsyncResult[str]") -> str:
        ends_at = time.monotonic() + self.wait_s
        while (state := asked.state) not in states.READY_STATES and time.monotonic() < ends_at:
            if self.stop.wait(POLL_S):
                raise Stopping("asked to end while a judge was waited for")
        return str(state)

    def _read(self, path: str, size: int) -> list[float]:
        try:
            scores = [float(score) for score in json.loads(self.artifacts.read(path))]
        except (MissingArtifact, TypeError, ValueError) as error:
            raise NotScored("unreadable") from error
        if len(scores) != size or not all(map(math.isfinite, scores)):
            raise NotScored("unreadable")
        return scores
