"""Pieces of one piece of work, done by several processes as soon as it turns out to be much.

A process costs a second or two to start, more than most datasets take: so this one begins alone.
"""

import gc
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from feedback.errors import HelperLost
from infra.child import ends_with_parent

Tool = TypeVar("Tool", contravariant=True)
Result = TypeVar("Result", covariant=True)
OBJECTS_BETWEEN_COLLECTIONS = 200_000  # rows hold no cycles: looking for them took a tenth of the time


class Task(Protocol[Tool, Result]):
    """One piece; `run` may be called in another process."""

    def run(self, tool: Tool, /) -> Result: ...


class Crew(Generic[Tool]):
    """`tool` goes to each process once, so it must be possible to pickle it; what is done has no other state.

    `processes` 0 is one for each core. Helpers are told by the kernel when the thread that needed them is gone.
    """

    patience_s: ClassVar[float] = 3.0

    def __init__(self, tool: Tool, processes: int = 0) -> None:
        self._tool, self._processes = tool, processes or len(os.sched_getaffinity(0))
        self._alone_until = time.monotonic() + self.patience_s
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    @property
    def processes(self) -> int:
        return self._processes

    def each(self, tasks: Sequence[Task[Tool, Result]]) -> Iterator[Result]:
        """The results in the order of the tasks. Raises HelperLost where another process was killed."""
        for at, task in enumerate(tasks):
            if self._processes > 1 and len(tasks) - at > 1 and time.monotonic() >= self._alone_until:
                yield from self._together(tasks[at:])
                return
            yield task.run(self._tool)

    def _together(self, tasks: Sequence[Task[Tool, Result]]) -> Iterator[Result]:
        if self._pool is None:
            spawning = multiprocessing.get_context("spawn")  # a fork would take half of the threads' locks along
            self._pool = ProcessPoolExecutor(self._processes, spawning, _begin, (self._tool, os.getpid()))
        try:
            yield from self._pool.map(_run, tasks)
        except BrokenProcessPool as error:
            raise HelperLost("a process that helped with the dataset ended: it has to be made again") from error


_tool: Any = None  # of a helper's process


def _begin(tool: object, parent: int) -> None:
    global _tool
    _tool = tool
    if ask := ends_with_parent(parent=parent):
        ask()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; whoever started this one ends it
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)


def _run(task: Task[Any, Result]) -> Result:
    return task.run(_tool)
