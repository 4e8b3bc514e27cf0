"""Every replica is asked at its own pace, and the newest answer counts."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from serving.engine import Look
from serving.errors import EngineRefused, EngineSilent, EngineUnreachable
from serving.observer import Observer

A, B = "http://a", "http://b"


class Engines:
    """What each address answers now; an exception is raised."""

    def __init__(self, **answers: object) -> None:
        self.answers: dict[str, object] = {f"http://{name}": answer for name, answer in answers.items()}
        self.asked: list[str] = []

    async def probe(self, address: str) -> Look:
        self.asked.append(address)
        answer = self.answers[address]
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            return make_look({"late"})
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, Look) else make_look(answer)  # type: ignore[arg-type]  # names


def make_look(names: Iterable[str], started: float = 1.0) -> Look:
    return Look(frozenset(names), started)


@asynccontextmanager
async def observing(engines: Engines, every_s: float = 60) -> AsyncIterator[Observer]:
    observer = Observer(engines.probe, every_s=every_s, changed=asyncio.Event())
    try:
        yield observer
    finally:
        await observer.close()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_whoever_is_watched_is_asked_and_whoever_is_not_is_forgotten() -> None:
    async with observing(Engines(a={"base"}, b={"base", "v1"})) as observer:
        observer.watch([A, B])
        await settle()
        assert observer.seen == {A: make_look({"base"}), B: make_look({"base", "v1"})}
        observer.watch([B])
        assert observer.seen == {B: make_look({"base", "v1"})}


@pytest.mark.parametrize("error", [EngineUnreachable("gone"), EngineRefused("401")])
async def test_one_that_does_not_answer_is_known_to_be_silent(error: Exception) -> None:
    async with observing(Engines(a=error)) as observer:
        observer.watch([A])
        await settle()
        assert observer.seen == {A: None}


async def test_one_that_is_merely_busy_stays_as_it_was() -> None:
    engines = Engines(a={"base", "v1"})
    async with observing(engines) as observer:
        await observer.look(A)
        engines.answers[A] = EngineSilent("/health: TimeoutError")
        await observer.look(A)
        assert observer.seen == {A: make_look({"base", "v1"})}


async def test_one_that_stays_silent_counts_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    engines = Engines(a={"base"})
    async with observing(engines) as observer:
        await observer.look(A)
        monkeypatch.setattr("serving.observer.PATIENCE_S", 0.0)
        engines.answers[A] = EngineSilent("/health: TimeoutError")
        await observer.look(A)
        assert observer.seen == {A: None}


async def test_a_slow_one_delays_nobody() -> None:
    async with observing(Engines(a=asyncio.Event(), b={"base"})) as observer:
        observer.watch([A, B])
        await settle()
        assert observer.seen == {B: make_look({"base"})}


async def test_of_two_questions_the_later_ones_answer_counts() -> None:
    slow = asyncio.Event()
    engines = Engines(a=slow)
    async with observing(engines) as observer:
        first = asyncio.create_task(observer.look(A))
        await settle()
        engines.answers[A] = {"base", "v1"}
        await observer.look(A)
        slow.set()
        await first
        assert observer.seen == {A: make_look({"base", "v1"})}


async def test_only_news_wakes_the_controller() -> None:
    changed = asyncio.Event()
    observer = Observer(Engines(a={"base"}).probe, every_s=60, changed=changed)
    await observer.look(A)
    assert changed.is_set()
    changed.clear()
    await observer.look(A)
    assert not changed.is_set()
    await observer.close()


async def test_it_keeps_asking() -> None:
    engines = Engines(a={"base"})
    async with observing(engines, every_s=0.01) as observer:
        observer.watch([A])
        async with asyncio.timeout(10):
            while len(engines.asked) < 3:
                await asyncio.sleep(0.01)


async def test_an_engine_that_started_anew_is_news_though_it_has_the_same_loaded() -> None:
    changed = asyncio.Event()
    engines = Engines(a=make_look({"base", "v1"}, started=1.0))
    observer = Observer(engines.probe, every_s=60, changed=changed)
    await observer.look(A)
    changed.clear()
    engines.answers[A] = make_look({"base", "v1"}, started=2.0)
    await observer.look(A)
    assert changed.is_set()
    await observer.close()
