"""A number that is never older than it says, and nobody who waits for it for long."""

import threading
import time
from collections.abc import Iterator

import pytest

from infra.keystore import watch as module
from infra.keystore.base import KeyringAway
from infra.keystore.watch import Watch
from tests.support.keyrings import seconds_until

LIMIT_S = 10


class Server:
    """Answers with `number`, unless it is away or says nothing."""

    def __init__(self) -> None:
        self.number, self.away, self.talks, self.asked = 1, False, threading.Event(), 0
        self.talks.set()

    def read(self) -> int:
        self.asked += 1
        assert self.talks.wait(LIMIT_S)
        if self.away:
            raise KeyringAway("gone fishing")
        return self.number


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def watch(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    for name, seconds in (("LOOK_S", 0.02), ("STALE_S", 0.2), ("PATIENCE_S", 0.5)):
        monkeypatch.setattr(module, name, seconds)
    made = Watch(server.read)
    yield made
    server.talks.set()
    made.close()


def test_nobody_is_asked_before_the_first_question(watch: Watch, server: Server) -> None:
    assert server.asked == 0
    assert watch.number(wait=True) == 1


def test_whoever_must_not_wait_is_refused_until_there_is_an_answer(watch: Watch, server: Server) -> None:
    server.talks.clear()
    with pytest.raises(KeyringAway):
        watch.number(wait=False)
    server.talks.set()
    assert watch.number(wait=True) == watch.number(wait=False) == 1


def test_a_new_number_is_heard_of(watch: Watch, server: Server) -> None:
    watch.number(wait=True)
    server.number = 2
    deadline = time.monotonic() + LIMIT_S
    while watch.number(wait=True) != 2:
        assert time.monotonic() < deadline


def test_of_a_server_that_says_nothing_only_the_first_to_notice_wait(watch: Watch, server: Server) -> None:
    watch.number(wait=True)
    server.talks.clear()
    seconds_until(KeyringAway, lambda: watch.number(wait=True))
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(KeyringAway):
            watch.number(wait=True)
    assert time.monotonic() - began < 0.5


def test_a_server_that_comes_back_in_time_is_missed_by_nobody(watch: Watch, server: Server) -> None:
    watch.number(wait=True)
    server.away = True
    seconds_until(KeyringAway, lambda: watch.number(wait=False))
    threading.Timer(0.1, lambda: setattr(server, "away", False)).start()
    assert watch.number(wait=True) == 1


def test_an_answer_that_was_asked_for_earlier_does_not_undo_a_later_one() -> None:
    asked, late, answers = threading.Event(), threading.Event(), [1, 2]

    def read() -> int:
        answer = answers.pop(0)
        if answer == 1:
            asked.set()
            assert late.wait(LIMIT_S)
        return answer

    watch = Watch(read)
    looking = threading.Thread(target=watch.look)
    looking.start()
    assert asked.wait(LIMIT_S)
    watch.look()
    late.set()
    looking.join()
    assert watch._number == 2


def test_what_is_wrong_is_said_to_whoever_asks(watch: Watch, server: Server) -> None:
    server.away = True
    with pytest.raises(KeyringAway, match="gone fishing"):
        watch.number(wait=True)
