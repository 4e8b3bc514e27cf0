"""Asks every replica what it holds, each at its own pace, so that a slow one delays neither the others nor a flip."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable

import structlog

from serving.engine import Look
from serving.errors import EngineRefused, EngineSilent, EngineUnreachable

PATIENCE_S = 20.0  # with an engine that is silent: on a busy machine it answers late, and users are better off waiting

Probe = Callable[[str], Awaitable[Look]]  # of an address; raises EngineUnreachable or EngineRefused

log = structlog.get_logger()


class Observer:
    """`seen` holds the last word of each address, None where it did not answer; who was never asked is missing."""

    def __init__(self, probe: Probe, *, every_s: float, changed: asyncio.Event) -> None:
        self._probe, self._every_s, self._changed = probe, every_s, changed
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._asked = 0
        self._newest: dict[str, int] = {}
        self._answered_at: dict[str, float] = {}
        self.seen: dict[str, Look | None] = {}

    def watch(self, addresses: Iterable[str]) -> None:
        """Follows exactly these from now on."""
        wanted = set(addresses)
        for address in wanted - self._tasks.keys():
            self._tasks[address] = asyncio.create_task(self._follow(address))
        for address in self._tasks.keys() - wanted:
            self._tasks.pop(address).cancel()
            self.seen.pop(address, None)

    async def look(self, address: str) -> None:
        """Once, now. Of two questions under way the answer to the later one counts, whichever comes last."""
        self._asked += 1
        number = self._asked
        try:
            found: Look | None = await self._probe(address)
            self._answered_at[address] = time.monotonic()
        except EngineSilent as error:
            if time.monotonic() - self._answered_at.get(address, -math.inf) < PATIENCE_S:
                return
            self._note_loss(address, error)
            found = None
        except (EngineUnreachable, EngineRefused) as error:
            self._note_loss(address, error)
            found = None
        if number < self._newest.get(address, 0):
            return
        self._newest[address] = number
        if address not in self.seen or self.seen[address] != found:
            self.seen[address] = found
            self._changed.set()

    def _note_loss(self, address: str, error: Exception) -> None:
        """Said once, not at each look."""
        if self.seen.get(address) is not None:
            log.warning("engine_lost", address=address, reason=str(error))

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()

    async def _follow(self, address: str) -> None:
        while True:
            await self.look(address)
            await asyncio.sleep(self._every_s)
