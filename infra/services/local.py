"""The three servers together, as `thumbwheel services` and the tests start them."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from infra.preflight import free_port
from infra.processes import read_json_file, write_json
from infra.secrets import kept_secret, write_private
from infra.services.base import HOST, Service
from infra.services.kafka import Kafka
from infra.services.postgres import Postgres
from infra.services.redis import Redis
from infra.settings import SERVICES_FILE

PORTS = {"kafka": 29092, "kafka_controller": 29093, "postgres": 25432, "redis": 26379}
PORTS_FILE = "ports.json"


@dataclass(frozen=True, slots=True)
class Services:
    kafka: Kafka
    postgres: Postgres
    redis: Redis

    def __iter__(self) -> Iterator[Service]:
        return iter((self.kafka, self.postgres, self.redis))

    def start(self, observer: Callable[[Service], None] = lambda _service: None) -> None:
        """All at once; raises ServiceError. `observer` hears of each that answers."""

        def wait(service: Service) -> None:
            service.wait()
            observer(service)

        with ThreadPoolExecutor() as pool:
            idle = [service for service in self if service.record is None]
            list(pool.map(lambda service: service.prepare(), idle))
            for service in idle:
                service.launch()  # in this thread, which outlives the pool
            list(pool.map(wait, self))

    def stop(self) -> list[str]:
        """Returns the names of those that ran."""
        with ThreadPoolExecutor() as pool:
            return [
                service.name
                for service, ran in zip(self, pool.map(lambda service: service.stop(), self), strict=True)
                if ran
            ]


def local_services(home: Path, ports: dict[str, int] | None = None, *, bound: bool = False) -> Services:
    """Of the state directory `home`: on the ports that are given, else where they were started before."""
    root = home / "services"
    at = ports or read_json_file(root / PORTS_FILE) or PORTS
    return Services(
        Kafka(root / "kafka", at["kafka"], at["kafka_controller"], bound=bound),
        Postgres(root / "postgres", at["postgres"], bound=bound),
        Redis(root / "redis", at["redis"], bound=bound),
    )


def free_ports() -> dict[str, int]:
    return {name: free_port(HOST) for name in PORTS}


def write_ports(home: Path, ports: dict[str, int]) -> None:
    """For every later start."""
    write_json(home / "services" / PORTS_FILE, ports)


def write_settings(home: Path, services: Services) -> None:
    """Where the servers are, and a secret of this installation's own, readable by its owner only."""
    values = {
        "kafka_bootstrap_servers": [services.kafka.address],
        "database_url": services.postgres.url,
        "redis_url": services.redis.url,
        "secret": kept_secret(home / "services" / "secret"),
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items()]  # TOML's strings and lists are JSON's
    path = home / SERVICES_FILE
    path.unlink(missing_ok=True)
    write_private(path, "\n".join(["[infra]", *lines, ""]))
