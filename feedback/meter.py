"""How far a dataset is, on a terminal, where it takes more than a moment."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SHOWN_AFTER_S = 5.0
WORDS = {"events": "opening events", "rows": "writing rows", "prompts": "writing prompts", "pairs": "asking the judge"}


class Meter:
    """Is called with what is done, how much of it, and how much there is. Shows nothing within the first seconds."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = Progress(*columns, TimeRemainingColumn(), console=console)
        self._clock, self._shown_from = clock, clock() + SHOWN_AFTER_S
        self._tasks = {what: self._bars.add_task(words, start=False, visible=False) for what, words in WORDS.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._bars.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        task = self._tasks[what]
        self._bars.start_task(task)
        self._bars.update(task, completed=done, total=total, visible=True)
        if self._clock() >= self._shown_from:
            self._bars.start()
