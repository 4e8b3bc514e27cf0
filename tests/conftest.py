"""The servers of the full profile for the tests that need them: private ones on free ports, started when asked for."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from infra.services.base import Service
from infra.services.kafka import Kafka
from infra.services.local import Services, free_ports, local_services
from infra.services.postgres import Postgres
from infra.services.redis import Redis
from tests.support.servers import missing_is_skipped


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """None of them runs yet; all are stopped at the end. PostgreSQL's user may not enter pytest's own folders."""
    with TemporaryDirectory(prefix="thumbwheel-servers-") as directory:
        home = Path(directory)
        home.chmod(0o711)
        made = local_services(home, free_ports(), bound=True)
        yield made
        made.stop()


def started(service: Service) -> None:
    with missing_is_skipped():
        service.start()


@pytest.fixture(scope="session")
def kafka(services: Services) -> Kafka:
    started(services.kafka)
    return services.kafka


@pytest.fixture(scope="session")
def postgres(services: Services) -> Postgres:
    started(services.postgres)
    return services.postgres


@pytest.fixture(scope="session")
def redis(services: Services) -> Redis:
    started(services.redis)
    return services.redis
