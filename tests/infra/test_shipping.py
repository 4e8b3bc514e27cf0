import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from infra.eventlog.base import LogUnavailable, Position
from infra.eventlog.sqlite import SqliteEventLog
from infra.shipping import Shipper, adopt
from infra.spool import Entry, Spool

MAX_BYTES = 1 << 20


class FlakyLog:
    """A producer that refuses when told to; what it took is in `taken`."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.away = False
        self.refuse_keys: set[str] = set()

    def append(self, topic: str, key: str, value: bytes) -> "Future[Position]":
        done: Future[Position] = Future()
        if self.away or key in self.refuse_keys:
            done.set_exception(LogUnavailable("away"))
        else:
            self.taken.append(key)
            done.set_result(Position(topic, 0, len(self.taken)))
        return done

    def close(self) -> None:
        """Nothing is held."""


def make_entry(number: int) -> Entry:
    return Entry("topic", f"{number:03d}", b"value")


def eventually(condition: Callable[[], bool], timeout_s: float = 5) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def test_what_is_spooled_reaches_the_log_in_order(tmp_path: Path) -> None:
    log, spool = FlakyLog(), Spool(tmp_path / "s", max_bytes=MAX_BYTES)
    shipper = Shipper(spool, log)
    shipper.start()
    for number in range(100):
        spool.append(make_entry(number))
    eventually(lambda: len(log.taken) == 100)
    assert log.taken == sorted(log.taken)
    shipper.close()
    assert not (tmp_path / "s").exists()


def test_while_the_log_is_away_everything_waits_and_then_follows(tmp_path: Path) -> None:
    log, spool = FlakyLog(), Spool(tmp_path / "s", max_bytes=MAX_BYTES)
    log.away = True
    shipper = Shipper(spool, log, retry_s=0.01)
    shipper.start()
    for number in range(10):
        spool.append(make_entry(number))
    eventually(lambda: shipper.log_away)
    assert spool.unshipped_bytes > 0
    log.away = False
    eventually(lambda: len(log.taken) == 10)
    eventually(lambda: not shipper.log_away)
    shipper.close()


def test_nothing_counts_as_shipped_behind_a_record_that_the_log_refused(tmp_path: Path) -> None:
    log, spool = FlakyLog(), Spool(tmp_path / "s", max_bytes=MAX_BYTES)
    log.refuse_keys = {"002"}
    for number in range(4):
        spool.append(make_entry(number))
    shipper = Shipper(spool, log, retry_s=0.01)
    shipper.start()
    eventually(lambda: log.taken.count("003") > 1)
    shipper.close()
    again = Spool(tmp_path / "s", max_bytes=MAX_BYTES)
    assert [entry.key for entry in again.read().entries] == ["002", "003"]
    again.close()


def test_closing_ships_what_is_left(tmp_path: Path) -> None:
    log, spool = FlakyLog(), Spool(tmp_path / "s", max_bytes=MAX_BYTES)
    shipped: list[int] = []
    shipper = Shipper(spool, log, on_shipped=shipped.append)
    shipper.start()
    for number in range(10):
        spool.append(make_entry(number))
    shipper.close()
    assert len(log.taken) == sum(shipped) == 10


def test_spools_of_dead_owners_are_adopted_and_removed_and_live_ones_left_alone(tmp_path: Path) -> None:
    log = FlakyLog()
    dead = Spool(tmp_path / "dead", max_bytes=MAX_BYTES)
    dead.append(make_entry(1))
    dead.close()
    live = Spool(tmp_path / "live", max_bytes=MAX_BYTES)
    live.append(make_entry(2))
    shippers = adopt(tmp_path, log, max_bytes=MAX_BYTES)
    eventually(lambda: not any(shipper.is_alive() for shipper in shippers))
    assert log.taken == ["001"]
    assert [path.name for path in tmp_path.iterdir()] == ["live"]
    live.close()


def test_two_who_adopt_at_once_ship_it_once(tmp_path: Path) -> None:
    log = FlakyLog()
    dead = Spool(tmp_path / "dead", max_bytes=MAX_BYTES)
    dead.append(make_entry(1))
    dead.close()
    log.away = True
    first, second = (adopt(tmp_path, log, max_bytes=MAX_BYTES) for _ in range(2))
    assert len(first) == 1
    assert second == []
    log.away = False
    first[0].close()
    assert log.taken == ["001"]


def test_the_embedded_log_has_what_was_shipped(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "log.db", 2)
    producer, spool = log.producer(), Spool(tmp_path / "s", max_bytes=MAX_BYTES)
    shipper = Shipper(spool, producer)
    shipper.start()
    for number in range(20):
        spool.append(make_entry(number))
    shipper.close()
    producer.close()
    assert sum(log.end_offsets(["topic"]).values()) == 20
