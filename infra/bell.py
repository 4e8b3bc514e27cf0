"""Rings when the routing table has changed, so that gateways need not wait for their next look.

Only a hint: the registry is the truth, and whoever hears nothing looks at it all the same.
"""

import asyncio
from typing import Protocol


class Bell(Protocol):
    def ring(self) -> None:
        """Never raises, and never blocks for long."""
        ...

    async def listen(self, heard: asyncio.Event) -> None:
        """Sets `heard` at every ring, until cancelled."""
        ...

    def close(self) -> None: ...


class NoBell:
    """Where there is no Redis: gateways look often."""

    def ring(self) -> None:
        """Nobody hears."""

    async def listen(self, heard: asyncio.Event) -> None:  # noqa: ARG002 nobody ever sets it
        await asyncio.Event().wait()

    def close(self) -> None:
        """Nothing is held."""
