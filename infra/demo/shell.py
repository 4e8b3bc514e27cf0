"""The `thumbwheel` command as a person types it: a process of its own in the demo's state directory."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.settings import HOME_VARIABLE

TAIL_LINES = 30


class CommandFailed(RuntimeError):
    """A command ended with another status than 0. The message shows it and the end of what it printed."""

    def __init__(self, arguments: Sequence[str], status: int, output: str) -> None:
        tail = "\n".join(output.strip().splitlines()[-TAIL_LINES:])
        super().__init__(f"`thumbwheel {' '.join(arguments)}` ended with {status}:\n{tail}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs commands with THUMBWHEEL_HOME set to `home`."""

    home: Path

    async def run(self, *arguments: str, on_line: Callable[[str], None] = lambda _line: None) -> str:
        """What it printed on stdout; raises CommandFailed. `on_line` hears stderr as it comes."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "infra.cli", *arguments,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, HOME_VARIABLE: str(self.home)},
        )  # fmt: skip
        try:
            out, err = await asyncio.gather(_all_of(process.stdout), _lines_of(process.stderr, on_line))
            await process.wait()
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise
        if process.returncode:
            raise CommandFailed(arguments, process.returncode, err + out.decode())
        return out.decode()

    async def json(self, *arguments: str) -> Any:
        """The one JSON document that the command prints with `--json`."""
        return json.loads(await self.run(*arguments, "--json"))


async def _all_of(pipe: asyncio.StreamReader | None) -> bytes:
    return await pipe.read() if pipe else b""


async def _lines_of(pipe: asyncio.StreamReader | None, on_line: Callable[[str], None]) -> str:
    heard: list[str] = []
    while line := await pipe.readline() if pipe else b"":
        heard.append(line.decode(errors="replace"))
        on_line(heard[-1].rstrip())
    return "".join(heard)
