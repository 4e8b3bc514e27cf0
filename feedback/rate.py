"""How many events a second, over the last while."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

WINDOW_S = 30.0


@dataclass
class Rate:
    """Of the last `window_s` seconds, or since the start where that is less."""

    window_s: float = WINDOW_S
    clock: Callable[[], float] = time.monotonic
    _batches: deque[tuple[float, int]] = field(default_factory=deque)
    _began: float = field(init=False)

    def __post_init__(self) -> None:
        self._began = self.clock()

    def add(self, events: int) -> None:
        self._batches.append((self.clock(), events))

    def per_second(self) -> float:
        at = self.clock()
        while self._batches and self._batches[0][0] < at - self.window_s:
            self._batches.popleft()
        seconds = min(self.window_s, at - self._began)
        return sum(events for _, events in self._batches) / seconds if seconds > 0 else 0.0
