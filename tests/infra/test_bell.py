"""A ring is heard by all who listen, and its absence hurts nobody."""

import asyncio
from contextlib import suppress

import pytest

from infra.bell import Bell, NoBell
from infra.redis_bell import RedisBell
from infra.services.redis import Redis


@pytest.fixture
def bells(redis: Redis) -> list[RedisBell]:
    """Of two processes."""
    return [RedisBell(redis.url), RedisBell(redis.url)]


async def heard_by(bell: Bell) -> tuple["asyncio.Task[None]", asyncio.Event]:
    heard = asyncio.Event()
    return asyncio.create_task(bell.listen(heard)), heard


async def end(*tasks: "asyncio.Task[None]") -> None:
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_a_ring_is_heard_by_the_other_process(bells: list[RedisBell]) -> None:
    ringing, listening = bells
    task, heard = await heard_by(listening)
    await asyncio.wait_for(heard.wait(), 5)  # connected
    heard.clear()
    ringing.ring()
    await asyncio.wait_for(heard.wait(), 5)
    await end(task)


async def test_who_listens_hears_again_after_redis_was_away(redis: Redis, bells: list[RedisBell]) -> None:
    ringing, listening = bells
    task, heard = await heard_by(listening)
    await asyncio.wait_for(heard.wait(), 5)
    redis.stop()
    ringing.ring()  # nobody hears, nobody is hurt
    heard.clear()
    redis.start()
    await asyncio.wait_for(heard.wait(), 10)  # the new connection counts as a ring
    await end(task)


async def test_without_a_bell_nothing_rings() -> None:
    bell = NoBell()
    task, heard = await heard_by(bell)
    bell.ring()
    await asyncio.sleep(0)
    assert not heard.is_set()
    await end(task)
