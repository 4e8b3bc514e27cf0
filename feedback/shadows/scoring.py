"""The trainer's `score` task, asked by its name: waited for, for so long and no longer."""

import json
import math
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

from celery import Celery, states
from celery.result import AsyncResult
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from feedback.errors import NotScored, Stopping
from infra.artifacts import ArtifactStore, MissingArtifact
from infra.contracts.tasks import SCORE

POLL_S = 0.2
AWAY = (OperationalError, RedisError, OSError)  # of the broker, and of where results are kept


@dataclass(frozen=True)
class Scorer:
    app: Celery
    artifacts: ArtifactStore
    stop: threading.Event
    wait_s: float

    def scores(self, judge: str, path: str, size: int) -> list[float]:
        """One number for each conversation in the file. Raises NotScored, or Stopping when the process is to end."""
        try:
            with self.app.connection_for_write() as connection:
                asked = self.app.send_task(SCORE, (judge, path), expires=self.wait_s, connection=connection)
            try:
                state = self._await(asked)
            finally:
                with suppress(FileNotFoundError):  # it has left no result
                    asked.forget()
        except AWAY as error:
            raise NotScored("broker_away") from error
        if state != states.SUCCESS:
            raise NotScored("failed" if state == states.FAILURE else "timed_out")
        return self._read(f"{path}.scores.json", size)

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
