"""The score task is sent by its name to a real worker, on the broker without a server and on Redis, and waited for."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from feedback.errors import NotScored, Stopping
from feedback.lending import lent
from feedback.shadows.scoring import Scorer
from infra.ports import Ports
from infra.processes import group_members, kill
from infra.services.redis import Redis
from tests.support.home import make_ports

ASKED = [{"prompt": [], "completion": text} for text in ("one", "three", "")]
PATIENCE_S = 120.0  # with a worker that starts on a busy machine


@pytest.fixture(params=["embedded", "full"])
def ports(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ports]:
    made = make_ports(tmp_path / "home", **environment(request, tmp_path / "home", request.param))
    yield made
    made.close()


def environment(request: pytest.FixtureRequest, home: Path, profile: str) -> dict[str, str]:
    if profile == "embedded":
        return {}
    redis: Redis = request.getfixturevalue("redis")
    return on_redis(home, redis.url)


def on_redis(home: Path, url: str) -> dict[str, str]:
    """The full profile, of which only the broker is met."""
    infra = {
        "PROFILE": "full", "REDIS_URL": url, "DATABASE_URL": f"sqlite:///{home / 'state.db'}", "SECRET": "0" * 64,
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    }  # fmt: skip
    return {f"THUMBWHEEL_INFRA__{name}": value for name, value in infra.items()}


@contextmanager
def worker(ports: Ports) -> Iterator[None]:
    infra = ports.settings.infra
    more = on_redis(ports.home, infra.redis_url.get_secret_value()) if infra.profile == "full" else {}
    environ = {**os.environ, **more, "THUMBWHEEL_HOME": str(ports.home)}
    process = subprocess.Popen([sys.executable, "-m", "tests.support.judging_worker"], env=environ)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def ask(ports: Ports, judge: str = "judge", *, wait_s: float = PATIENCE_S, size: int = len(ASKED)) -> list[float]:
    scorer = Scorer(ports.settings, ports.artifacts, threading.Event(), wait_s)
    with lent(ports.artifacts, ASKED) as path:
        return scorer.scores(judge, path, size)


def results(ports: Ports) -> list[Path]:
    return list((ports.home / "broker" / "results").glob("celery-task-meta-*"))


def test_a_worker_reads_what_is_lent_and_its_scores_come_back(ports: Ports) -> None:
    with worker(ports):
        assert ask(ports) == [3.0, 5.0, 0.0]
        for judge, kind in (("broken", "failed"), ("silent", "unreadable"), ("odd", "unreadable")):
            with pytest.raises(NotScored) as raised:
                ask(ports, judge)
            assert raised.value.kind == kind
        assert ask(ports) == [3.0, 5.0, 0.0]
    assert ports.artifacts.names("lent") == []
    assert results(ports) == []


def test_a_worker_that_is_away_is_not_waited_for_for_ever_and_asked_nothing_late(ports: Ports) -> None:
    with pytest.raises(NotScored) as raised:
        ask(ports, wait_s=0.5)
    assert raised.value.kind == "timed_out"
    assert ports.artifacts.names("lent") == []
    with worker(ports):
        assert ask(ports) == [3.0, 5.0, 0.0]
    assert ports.artifacts.names("lent") == [], "the first question was too old to be taken up"


def test_a_process_that_is_to_end_waits_no_longer(tmp_path: Path) -> None:
    ports, stop = make_ports(tmp_path / "home"), threading.Event()
    stop.set()
    with pytest.raises(Stopping):
        Scorer(ports.settings, ports.artifacts, stop, PATIENCE_S).scores("judge", "lent/0.json", 0)
    ports.close()


def test_without_a_broker_it_is_away(tmp_path: Path) -> None:
    home = tmp_path / "home"
    ports = make_ports(home, **on_redis(home, "redis://127.0.0.1:1/0"))
    with pytest.raises(NotScored) as raised:
        ask(ports)
    assert raised.value.kind == "broker_away"
    assert ports.artifacts.names("lent") == []
    ports.close()


def test_a_broker_that_comes_back_is_asked_again(redis: Redis, tmp_path: Path) -> None:
    home = tmp_path / "home"
    ports = make_ports(home, **on_redis(home, redis.url))
    scorer = Scorer(ports.settings, ports.artifacts, threading.Event(), PATIENCE_S)
    assert redis.record is not None
    with lent(ports.artifacts, ASKED) as path:
        kill(group_members(redis.record))
        with pytest.raises(NotScored):
            scorer.scores("judge", path, len(ASKED))
        redis.start()
        with worker(ports):
            assert scorer.scores("judge", path, len(ASKED)) == [3.0, 5.0, 0.0]
    ports.close()
