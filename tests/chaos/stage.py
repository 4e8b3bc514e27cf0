"""The whole product on servers of its own, with a handle on each process that a fault may strike."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from feedback.intake.consumer import lag
from feedback.tables import VoteEventRow
from infra.eventlog.base import LogUnavailable
from infra.ports import Ports
from infra.services.local import Services, free_ports, local_services, write_settings
from infra.settings import variable
from tests.chaos.books import Books
from tests.chaos.victims import Room, Server, Victim
from tests.support.product import Product, running_product

LOOK_S = 0.25
CONSUMERS = 2
SPOOL_BYTES = 1 << 20  # room for what a server's restart takes, and full in seconds when fillers come
SETTINGS = {
    ("infra", "profile"): "full",
    ("infra", "lease_ttl_s"): 5,
    ("feedback", "processes"): CONSUMERS,
    ("gateway", "spool_max_bytes"): SPOOL_BYTES,
    ("gateway", "routing_max_age_s"): 300,
    ("serving", "start_timeout_s"): 900,
}
EMPTY_SPOOL = "thumbwheel_gateway_spool_bytes 0.0\n"


class NotHealed(AssertionError):
    """The stack did not come back by itself in time."""


@dataclass(frozen=True)
class Stage:
    """`ports` are the audience's own connections to the same servers."""

    product: Product
    services: Services
    ports: Ports

    @property
    def victims(self) -> Mapping[str, Sequence[Victim]]:
        """Who may be struck, by the names that faults have for them."""
        return {**self.rooms, **{service.name: [Server(service)] for service in self.services}}

    @property
    def rooms(self) -> Mapping[str, Sequence[Room]]:
        """Those that the supervisor starts again."""
        names = {"gateway": ["gateway"], "worker": ["trainer"], "engine": ["replica-0"], "controller": ["controller"]}
        names["consumer"] = ["feedback", *(f"feedback-{number}" for number in range(1, CONSUMERS))]
        return {target: [Room(self.product, name) for name in found] for target, found in names.items()}

    def pids(self) -> dict[str, int]:
        return {name: process["pid"] for name, process in self.product.processes().items()}

    def has_stored(self, feedback_id: str) -> bool:
        query = select(VoteEventRow.event_id).where(VoteEventRow.event_id == UUID(feedback_id).hex)
        try:
            with self.ports.database.reading() as session:
                return session.scalar(query) is not None
        except SQLAlchemyError:
            return False

    def is_ready(self) -> bool:
        return all(process["state"] == "ready" for process in self.product.processes().values())

    def is_quiet(self) -> bool:
        """Everything that was acknowledged is behind the consumers."""
        try:
            return self.is_ready() and self._spool_is_empty() and lag(self.ports.eventlog) == 0
        except LogUnavailable:
            return False

    def is_well(self, books: Books, since: float) -> bool:
        """All processes are ready, somebody was answered since, and a vote cast since has gone all the way."""
        return books.answered_since(since) and self.takes_votes(books, since) and self.is_ready()

    def takes_votes(self, books: Books, since: float) -> bool:
        """A vote that was cast since has gone all the way."""
        cast = books.cast_since(since)
        return cast is not None and self.has_stored(cast.feedback_id)

    def _spool_is_empty(self) -> bool:
        spools = list((self.product.home / "spool").glob("*/lock"))
        return len(spools) == 1 and EMPTY_SPOOL in self.product.page("gateway", "/metrics").text


@contextmanager
def open_stage(home: Path, model: Path, **environ: str) -> Iterator[Stage]:
    """`home` must be one that PostgreSQL's user may enter. Raises ServiceError where a server is not installed."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True, mode=0o755)
    services = local_services(home, free_ports(), bound=True)
    settings = {variable(*name): str(value) for name, value in SETTINGS.items()}
    try:
        services.start()
        write_settings(home, services)
        with running_product(home, model, **(settings | environ)) as product:
            ports = product.ports()
            try:
                yield Stage(product, services, ports)
            finally:
                ports.close()
    finally:
        services.stop()


def wait_until(condition: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    """Raises NotHealed naming what did not happen."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise NotHealed(f"after {timeout_s:.0f} s still not so: {what}")
        time.sleep(LOOK_S)
