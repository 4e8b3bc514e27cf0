"""How a process of the product, or one of its servers, is killed, stopped and started again."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import psutil

from infra.processes import ProcessRecord, group_members
from infra.services.base import Service
from infra.stack import current_status
from tests.support.product import Product

GONE_S = 20.0  # a server's children notice by themselves that it has died


class Victim(Protocol):
    def members(self) -> list[psutil.Process]:
        """All of its processes, the one that started the others first."""
        ...

    def kill(self) -> None:
        """SIGKILL to the first of them; what nobody supervises is started again."""
        ...

    def restart(self) -> None:
        """Asks it to end; what nobody supervises is started again."""
        ...

    def starts(self) -> int:
        """How often its supervisor has had to start it again."""
        ...

    def is_ready(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Room:
    """A process of the product: its supervisor starts it again."""

    product: Product
    name: str

    def members(self) -> list[psutil.Process]:
        status = current_status(self.product.home).processes[self.name]
        found = group_members(ProcessRecord(status.pid, status.started))
        return sorted(found, key=lambda process: process.pid != status.pid)

    def kill(self) -> None:
        self.product.kill(self.name)

    def restart(self) -> None:
        os.kill(current_status(self.product.home).processes[self.name].pid, signal.SIGTERM)

    def starts(self) -> int:
        return current_status(self.product.home).processes[self.name].restarts

    def is_ready(self) -> bool:
        return self.product.is_ready(self.name)


@dataclass(frozen=True, slots=True)
class Server:
    """Kafka, PostgreSQL or Redis: whoever strikes it starts it again, as an operator's own supervisor would."""

    service: Service

    def members(self) -> list[psutil.Process]:
        record = self.service.record
        assert record is not None, f"{self.service.name} does not run"
        first = psutil.Process(record.pid)
        return [first, *first.children(recursive=True)]

    def kill(self) -> None:
        """PostgreSQL does not start beside what its dead server left behind."""
        members = self.members()
        members[0].kill()
        _, left = psutil.wait_procs(members, timeout=GONE_S)
        assert not left, f"of {self.service.name} these are left: {left}"
        self.service.start()

    def restart(self) -> None:
        self.service.stop()
        self.service.start()

    def starts(self) -> int:
        """It has no supervisor: whoever struck it has waited until it answered again."""
        return 0

    def is_ready(self) -> bool:
        return self.service.record is not None


def pause(members: Sequence[psutil.Process]) -> None:
    for process in members:
        process.send_signal(signal.SIGSTOP)


def resume(members: Sequence[psutil.Process]) -> None:
    """Some may have been killed by whoever lost patience with them."""
    for process in members:
        if process.is_running():
            process.send_signal(signal.SIGCONT)
