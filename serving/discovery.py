"""Finds engines that somebody else started: by a list in the settings, a name in the DNS, or a file."""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from infra.contracts.routing import Replica, ReplicaState
from infra.settings import ServingSettings

Resolve = Callable[[str, int], Awaitable[list[str]]]  # host and port -> IP addresses; raises OSError

log = structlog.get_logger()


class BadList(ValueError):
    """What is written there names no replicas. The message says where it is wrong."""


class Discovery:
    """`found` are addresses, None until every source could be read. One that can't be read later changes nothing:
    a name server that is away takes no engine out of service."""

    def __init__(self, settings: ServingSettings, changed: asyncio.Event, resolve: Resolve | None = None) -> None:
        self._settings, self._changed, self._resolve = settings, changed, resolve or look_up
        self._task: asyncio.Task[None] | None = None
        self.found: frozenset[str] | None = None

    def start(self) -> None:
        """Looks again and again, where there is anything to look at."""
        given = self._settings
        if self._task is None and (given.replica_addresses or given.replica_dns or given.replica_file):
            self._task = asyncio.create_task(self._follow())

    async def look(self) -> None:
        try:
            found = frozenset(await self._addresses())
        except (OSError, BadList) as error:
            log.warning("discovery_failed", reason=str(error))
            return
        if found != self.found:
            log.info("replicas_discovered", addresses=sorted(found))
            self.found = found
            self._changed.set()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _follow(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(self._settings.discovery_s)

    async def _addresses(self) -> list[str]:
        given = self._settings
        found = [normal(address) for address in given.replica_addresses]
        if given.replica_dns:
            host, port = host_and_port(given.replica_dns)
            found += [normal(f"{_bracketed(ip)}:{port}") for ip in await self._resolve(host, port)]
        if given.replica_file:
            found += listed(await asyncio.to_thread(Path(given.replica_file).read_text))
        return found


def listed(text: str) -> list[str]:
    """A JSON list of addresses, or one on each line with `#` before remarks. Raises BadList, also for an empty text:
    that is a file which is being written; `[]` says that there are none."""
    if text.lstrip().startswith("["):
        try:
            found = json.loads(text)
        except ValueError as error:
            raise BadList(f"no JSON list: {error}") from None
    else:
        found = [line for line in (line.partition("#")[0].strip() for line in text.splitlines()) if line]
        if not found:
            raise BadList("an empty file; [] says that there are no replicas")
    return [normal(str(address)) for address in found]


def normal(address: str) -> str:
    """`http://host:port`, also of one that is written without its scheme. Raises BadList."""
    full = address if "://" in address else f"http://{address}"
    try:
        parts = urlsplit(full)
        is_whole = bool(parts.scheme in ("http", "https") and parts.hostname and parts.port)
    except ValueError:
        is_whole = False
    if not is_whole or parts.path.strip("/"):
        raise BadList(f"{address} is no host:port")
    return f"{parts.scheme}://{parts.netloc}"


def host_and_port(name: str) -> tuple[str, int]:
    """Raises BadList."""
    parts = urlsplit(normal(name))
    assert parts.hostname
    assert parts.port
    return parts.hostname, parts.port


def found_replica(address: str) -> Replica:
    """Named by where it is. What base it has, it must show first."""
    return Replica(
        name=urlsplit(address).netloc,
        address=address,
        base_revision="",
        served_model="",
        state=ReplicaState.STARTING,
        discovered=True,
    )


async def look_up(host: str, port: int) -> list[str]:
    """The A and AAAA records; raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return sorted({str(place[0]) for *_, place in found})


def _bracketed(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip
