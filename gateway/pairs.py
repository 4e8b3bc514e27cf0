"""One request, two answers side by side: an engine request for each arm, joined into one answer of two choices."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self, TypeVar

from gateway.recorder import Asked
from gateway.replies import Replies, Reply
from gateway.routing import Target

Json = dict[str, Any]
Batch = Iterable[Json | None]
Result = TypeVar("Result")


@asynccontextmanager
async def side_by_side(replies: Replies, asked: Asked, pair: Target) -> AsyncIterator[Reply]:
    """Both heads have come. Where one side fails the other is given up, and that failure alone is raised."""
    async with AsyncExitStack() as stack:
        opening = (
            stack.enter_async_context(replies.to(asked, side, name=f"{asked.response_id}-{index}", n=1))
            for index, side in enumerate(pair.sides)
        )
        both = SideBySide(await together(opening), [side.version for side in pair.sides])
        stack.push_async_callback(both.end)
        yield both


class SideBySide:
    """Two replies as one: each choice has the index of its side and says its version; usage is the sum."""

    def __init__(self, replies: Sequence[Reply], versions: Sequence[str]) -> None:
        self._replies, self._versions = replies, versions
        self._waiting: dict[asyncio.Task[Batch], int] = {}
        self._sources: list[AsyncIterator[Batch]] = []
        self._usages: dict[int, Json] = {}
        self._told = self._ended = 0  # sides that have sent their last usage, and all
        self._created: int | None = None

    async def whole(self) -> Json:
        bodies = await together(reply.whole() for reply in self._replies)
        for index, body in enumerate(bodies):
            self._mark(index, body)
        choices = [choice for body in bodies for choice in body["choices"]]
        return {**bodies[0], "choices": choices, "usage": joint([body.get("usage") or {} for body in bodies])}

    def pieces(self) -> Self:
        self._sources = [reply.pieces() for reply in self._replies]
        for index in range(len(self._sources)):
            self._read_on(index)
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        """As they come; the end of one side alone, without its [DONE], is the end of both."""
        if not self._waiting:
            raise StopAsyncIteration
        done, _ = await asyncio.wait(self._waiting, return_when=asyncio.FIRST_COMPLETED)
        task = done.pop()
        return self._marked(self._waiting.pop(task), task.result())

    async def end(self) -> None:
        """Reads no further."""
        for task in self._waiting:
            task.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)

    def _read_on(self, index: int) -> None:
        self._waiting[asyncio.ensure_future(anext(self._sources[index]))] = index

    def _marked(self, index: int, batch: Batch) -> Iterator[Json | None]:
        for chunk in batch:
            if chunk is None:
                self._ended += 1
                if self._ended == len(self._sources):
                    yield None
                return
            if self._is_due(index, chunk):
                yield chunk
        self._read_on(index)

    def _is_due(self, index: int, chunk: Json) -> bool:
        """What tells the usage alone waits for the other side's."""
        self._mark(index, chunk)
        self._created = chunk["created"] = self._created or chunk.get("created")
        if usage := chunk.get("usage"):
            self._usages[index] = usage
            chunk["usage"] = joint(list(self._usages.values()))
        if chunk["choices"]:
            return True
        self._told += 1
        return self._told == len(self._sources)

    def _mark(self, index: int, body: Json) -> None:
        for choice in body["choices"]:
            choice["index"], choice["version"] = index, self._versions[index]


def joint(usages: Sequence[Json]) -> Json:
    """As one engine counts two choices: the prompt once, what was written in full."""
    prompt = max(usage.get("prompt_tokens", 0) for usage in usages)
    written = sum(usage.get("completion_tokens") or 0 for usage in usages)
    return {**usages[0], "prompt_tokens": prompt, "completion_tokens": written, "total_tokens": prompt + written}


async def together(work: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """All results in their order. What fails first is raised, and ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
