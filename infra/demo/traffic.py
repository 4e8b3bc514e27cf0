"""Users who never stop asking: the load under which every swap happens, and the clock that times it."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from infra.demo.assistant import Ask, Assistant

MOST_IN_FLIGHT = 24
LOOK_EVERY_S = 0.05


class Traffic:
    """Starts a streamed request every so often, whether or not the last one is answered."""

    def __init__(
        self, assistant: Assistant, questions: Sequence[str], every_s: float, every_s_near_a_swap: float
    ) -> None:
        self._assistant = assistant
        self._questions = questions
        self._calm, self._brisk = every_s, every_s_near_a_swap
        self._every_s = every_s
        self._rng = random.Random(0)
        self._in_flight: set[asyncio.Task[object]] = set()

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Flows while the block runs; what is in flight at its end is answered first."""
        pump = asyncio.create_task(self._pump())
        try:
            yield
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
            await asyncio.gather(*self._in_flight)

    def hurry(self) -> None:
        """Near a swap requests start often enough to time it to some tens of milliseconds; they are short."""
        self._every_s = self._brisk

    def calm(self) -> None:
        self._every_s = self._calm

    async def first_start(self, version: str, since: float, patience_s: float) -> float | None:
        """When the first request began that `version` answered; None where there was none in time."""
        for _ in range(int(patience_s / LOOK_EVERY_S)):
            starts = [at for at, who in self._assistant.tally.starts if who == version and at >= since]
            if starts:
                return min(starts)
            await asyncio.sleep(LOOK_EVERY_S)
        return None

    def last_start(self, version: str) -> float | None:
        """When the last request began that `version` answered without being asked for by name."""
        return max((at for at, who in self._assistant.tally.starts if who == version), default=None)

    async def _pump(self) -> None:
        while True:
            if len(self._in_flight) < MOST_IN_FLIGHT:
                task = asyncio.create_task(self._one())
                self._in_flight.add(task)
                task.add_done_callback(self._in_flight.discard)
            await asyncio.sleep(self._every_s)

    async def _one(self) -> None:
        short = self._every_s < self._calm
        user = f"visitor-{self._rng.randrange(500)}"
        await self._assistant.stream(Ask(self._rng.choice(self._questions), user=user, max_tokens=6 if short else 48))
