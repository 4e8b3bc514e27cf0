"""The serving controller's process: picks the parts, runs until SIGTERM."""

import asyncio
import fcntl
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import aiohttp
import structlog

from infra.database.schema import SchemaMismatch, await_schema
from infra.http import Health
from infra.logs import configure_logging
from infra.ports import Ports
from infra.processes import announce
from infra.settings import SettingsError, load_settings
from serving.adapters import read_bases
from serving.announcing import Announcing
from serving.checkup import Checkup
from serving.controller import Controller, Hands, Seat
from serving.discovery import Discovery
from serving.engine import Engine, Look
from serving.errors import CannotStart
from serving.evidence import Shelf
from serving.fingerprint import Fingerprints
from serving.gates.catalogue import gates_for
from serving.gating import Gating
from serving.metrics import Metrics
from serving.monitors.limits import Limits
from serving.observer import Observer
from serving.preparation import Preparation
from serving.replica import check_directory
from serving.watching import Watching

NAME = "controller"
USAGE = 2
KEEPALIVE_S = 3.0  # below the engine's own 5 s: it never hangs up on a connection about to be used

log = structlog.get_logger()


def main() -> int:
    try:
        settings = load_settings()
        configure_logging(settings.infra, process=NAME)
        check_directory(settings.serving)
        if settings.serving.next_model:
            check_directory(settings.serving, is_next=True)
        gates_for(settings.serving)
        ports = Ports(settings)
        await_schema(ports.database)
    except (SettingsError, CannotStart, SchemaMismatch) as error:
        print(error, file=sys.stderr)  # noqa: T201 - the supervisor shows the last line of what could not start
        return USAGE
    with alone(settings.home):
        asyncio.run(serve(ports))
    ports.close()
    return 0


async def serve(ports: Ports) -> None:
    """Until SIGTERM or SIGINT."""
    stop, changed = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _stop, stop, changed)
    connector = aiohttp.TCPConnector(keepalive_timeout=KEEPALIVE_S)
    async with aiohttp.ClientSession(connector=connector) as session:
        controller = await asyncio.to_thread(compose, ports, session, changed, Metrics())
        checks = {"leading": lambda: _check_leads(controller), "replicas": lambda: _check_replicas(controller)}
        health = Health(checks, port=ports.settings.serving.port)
        health.start()
        announce(ports.home, NAME, health.address)
        try:
            async with telling(ports, stop, controller):
                await controller.run(stop)
        finally:
            log.info("controller_stops")
            health.close()


@asynccontextmanager
async def telling(ports: Ports, stop: asyncio.Event, controller: Controller) -> AsyncIterator[None]:
    """Tells the log of rollouts while the block lasts, which ends with `stop`; a fault on either side ends both."""
    with closing(ports.eventlog.producer()) as producer:
        announcing = Announcing(ports.database, ports.sealer, producer)
        async with asyncio.TaskGroup() as group:
            group.create_task(announcing.run(stop, lambda: controller.lease is not None))
            yield


def compose(ports: Ports, session: aiohttp.ClientSession, changed: asyncio.Event, metrics: Metrics) -> Controller:
    """Reads the bases' shapes and revisions, which takes a while for large models."""
    settings = ports.settings.serving
    bases = read_bases(settings, Path(settings.model))

    def engine_at(address: str) -> Engine:
        return Engine(session, address, ports.engine_key)

    async def probe(address: str) -> Look:
        return await engine_at(address).look()

    observer = Observer(probe, every_s=settings.poll_s, changed=changed)
    shelf = Shelf(ports.home, ports.artifacts, bases, settings.max_lora_rank)
    preparation = Preparation(ports.database, shelf, settings, engine_at, observer.look, metrics)
    watching = Watching(ports.database, Limits.of(settings), metrics, every_s=settings.look_s)
    fingerprints = [Fingerprints(ports.artifacts, base.revision) for base in bases]
    checkup = Checkup(ports.database, fingerprints, preparation, engine_at, settings.smoke_tolerance, metrics)
    discovery = Discovery(settings, changed)
    gating = Gating(ports.database, ports.artifacts, shelf, settings, preparation.differences, metrics)
    seat = Seat(
        alias=ports.settings.gateway.alias,
        base_revision=bases[0].revision,
        next_base=bases[1].revision if len(bases) > 1 else "",
        holder=f"{NAME}@{socket.gethostname()}:{ports.home}",
        lease_ttl_s=ports.settings.infra.lease_ttl_s,
    )
    hands = Hands(preparation, checkup, discovery, gating, watching, observer, changed, ports.bell, metrics)
    return Controller(ports.database, settings, seat, hands)


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """One controller per state directory. The kernel frees the lock of one that was killed, so that its successor,
    under the same name, may take the lease over at once instead of waiting until it expires."""
    path = home / "run" / "controller.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _stop(stop: asyncio.Event, changed: asyncio.Event) -> None:
    stop.set()
    changed.set()


def _check_leads(controller: Controller) -> None:
    if controller.lease is None:
        raise RuntimeError("another controller leads")


def _check_replicas(controller: Controller) -> None:
    if not controller.ready:
        raise RuntimeError("no replica may answer users yet")


if __name__ == "__main__":
    sys.exit(main())
