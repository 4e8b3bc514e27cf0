"""The servers of the full profile for the tests that need them: private ones on free ports, started when asked for."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from infra.services.kafka import Kafka
from infra.services.local import Services, free_ports, local_services
from infra.services.postgres import Postgres
from infra.services.redis import Redis


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """None of them runs yet; all are stopped at the end. PostgreSQL's user may not enter pytest's own folders."""
    with TemporaryDirectory(prefix="thumbwheel-servers-") as directory:
        home = Path(directory)
        home.chmod(0o711)
        made = local_services(home, free_ports(), bound=True)
        yield made
        made.stop()


@pytest.fixture(scope="session")
def kafka(services: Services) -> Kafka:
    services.kafka.start()
    return services.kafka


@pytest.fixture(scope="session")
def postgres(services: Services) -> Postgres:
    services.postgres.start()
    return services.postgres


@pytest.fixture(scope="session")
def redis(services: Services) -> Redis:
    services.redis.start()
    return services.redis
