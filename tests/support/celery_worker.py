"""A worker whose tasks leave marks, for tests of brokers: `python -m tests.support.celery_worker DIRECTORY [QUEUE...]`.

Its settings come from the environment, as the trainer's do.
"""

import sys
import threading
from pathlib import Path

from celery import Celery

from infra.celery_app import make_celery
from infra.settings import load_settings

MARK, HOLD, ADD = "test.mark", "test.hold", "test.add"


def make_app(directory: Path) -> Celery:
    app = make_celery(load_settings())

    @app.task(name=MARK, ignore_result=True)
    def mark(name: str) -> None:
        leave(directory, name)

    @app.task(name=HOLD, ignore_result=True)
    def hold(name: str) -> None:
        leave(directory, name)
        threading.Event().wait()  # until its process is killed

    @app.task(name=ADD)
    def add(first: int, second: int) -> int:
        return first + second

    return app


def leave(directory: Path, name: str) -> None:
    with (directory / "marks").open("a") as file:
        file.write(name + "\n")


if __name__ == "__main__":
    make_app(Path(sys.argv[1])).Worker(
        pool="threads",
        concurrency=2,
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        queues=sys.argv[2:] or None,
    ).start()
