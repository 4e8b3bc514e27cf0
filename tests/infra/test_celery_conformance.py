"""What Celery must do on either broker: the embedded one and Redis."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis as redis_client
from celery import Celery

from infra.celery_app import make_celery
from infra.services.redis import Redis
from infra.settings import load_settings
from tests.support.celery_worker import ADD, HOLD, MARK

PATIENCE_S = 60  # a worker imports Celery first, on a machine that may be busy
MESSAGES = 20


@dataclass(frozen=True)
class Broker:
    """One of the two, in a place of its own: how it is reached, and how everything on it is lost."""

    app: Celery
    home: Path
    environ: dict[str, str]
    wipe: Callable[[], object]

    @contextmanager
    def worker(self, *queues: str) -> Iterator[subprocess.Popen[bytes]]:
        argv = [sys.executable, "-m", "tests.support.celery_worker", str(self.home), *queues]
        with (self.home / "worker.log").open("ab") as log:
            process = subprocess.Popen(argv, env={**os.environ, **self.environ}, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def marks(self) -> list[str]:
        path = self.home / "marks"
        return path.read_text().split() if path.exists() else []

    def wait_for(self, *names: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not set(names) <= set(self.marks()):
            assert time.monotonic() < deadline, (self.home / "worker.log").read_text()[-3000:]
            time.sleep(0.05)


@pytest.fixture(params=["embedded", "redis"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    embedded = request.param == "embedded"
    environ = {"THUMBWHEEL_HOME": str(tmp_path)} | ({} if embedded else on_redis(request.getfixturevalue("redis")))
    app = make_celery(load_settings(tmp_path, environ))
    yield Broker(app, tmp_path, environ, wipe_folder(tmp_path) if embedded else wipe_redis(app))
    app.close()


def on_redis(redis: Redis) -> dict[str, str]:
    """The full profile with nothing but Redis behind it; emptied first, since all tests share it."""
    with redis_client.Redis.from_url(redis.url) as client:
        client.flushall()
    return {
        "THUMBWHEEL_INFRA__PROFILE": "full",
        "THUMBWHEEL_INFRA__REDIS_URL": redis.url,
        "THUMBWHEEL_INFRA__DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:1/none",
        "THUMBWHEEL_INFRA__KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "THUMBWHEEL_INFRA__SECRET": "0" * 64,
    }


def wipe_redis(app: Celery) -> Callable[[], object]:
    def wipe() -> None:
        with redis_client.Redis.from_url(app.conf.broker_url) as client:
            client.flushall()

    return wipe


def wipe_folder(home: Path) -> Callable[[], object]:
    def wipe() -> None:
        for message in (home / "broker" / "queue").iterdir():
            message.unlink()

    return wipe


def test_every_task_runs_once_however_many_workers_there_are(broker: Broker) -> None:
    names = [f"m{number}" for number in range(MESSAGES)]
    with broker.worker(), broker.worker():
        for name in names:
            broker.app.send_task(MARK, (name,))
        broker.wait_for(*names)
        broker.app.send_task(MARK, ("last",))
        broker.wait_for("last")
    assert sorted(broker.marks()) == sorted([*names, "last"])


def test_a_worker_takes_from_its_own_queues_only(broker: Broker) -> None:
    """The last one is on the first worker's queue: it was asked for both others before."""
    for queue, name in (("cpu", "one"), ("gpu", "two"), ("cpu", "three")):
        broker.app.send_task(MARK, (name,), queue=queue)
    with broker.worker("cpu"):
        broker.wait_for("one", "three")
        assert "two" not in broker.marks()
        with broker.worker("gpu"):
            broker.wait_for("two")


def test_one_worker_may_take_from_both_queues(broker: Broker) -> None:
    for queue in ("cpu", "gpu"):
        broker.app.send_task(MARK, (queue,), queue=queue)
    with broker.worker("cpu", "gpu"):
        broker.wait_for("cpu", "gpu")


def test_a_result_comes_back_to_who_asked(broker: Broker) -> None:
    with broker.worker():
        assert broker.app.send_task(ADD, (2, 3)).get(timeout=PATIENCE_S) == 5


def test_what_was_sent_before_a_worker_is_there_waits_for_it(broker: Broker) -> None:
    broker.app.send_task(MARK, ("early",))
    with broker.worker():
        broker.wait_for("early")


def test_a_task_whose_worker_was_killed_is_not_run_again_by_the_broker(broker: Broker) -> None:
    """It was acknowledged as it began; the registry's sweep knows whether it is still wanted."""
    broker.app.send_task(HOLD, ("held",))
    with broker.worker() as first:
        broker.wait_for("held")
        first.kill()
        first.wait()
    with broker.worker():
        broker.app.send_task(MARK, ("after",))
        broker.wait_for("after")
    assert broker.marks().count("held") == 1


def test_what_is_too_old_is_dropped(broker: Broker) -> None:
    broker.app.send_task(MARK, ("old",), expires=0.01)
    with broker.worker():
        broker.app.send_task(MARK, ("new",))
        broker.wait_for("new")
    assert broker.marks() == ["new"]


def test_after_everything_on_it_was_lost_it_takes_and_gives_messages(broker: Broker) -> None:
    broker.app.send_task(MARK, ("lost",))
    broker.wipe()
    with broker.worker():
        broker.app.send_task(MARK, ("first",))
        broker.wait_for("first")
        broker.wipe()
        broker.app.send_task(MARK, ("second",))
        broker.wait_for("second")
    assert broker.marks() == ["first", "second"]
