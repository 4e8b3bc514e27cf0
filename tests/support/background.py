"""A scene that runs beside the test, for clients that block while they wait: schemathesis, the synchronous SDK."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.scene import Scene, open_scene


@contextmanager
def background_scene(home: Path, **options: Any) -> Iterator[Scene]:
    """`options` are `open_scene`'s. The scene's own clients belong to another thread: make some, or use `url`."""
    opened: Future[tuple[Scene, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        try:
            async with open_scene(home, **options) as scene:
                stop = asyncio.Event()
                opened.set_result((scene, asyncio.get_running_loop(), stop))
                await stop.wait()
        except BaseException as error:  # the test waits for one or the other
            if opened.done():
                raise
            opened.set_exception(error)

    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(lambda: asyncio.run(serve()))
        scene, loop, stop = opened.result()
        try:
            yield scene
        finally:
            loop.call_soon_threadsafe(stop.set)
            serving.result()
