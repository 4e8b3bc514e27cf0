"""The servers of the full profile for the tests that need them: private ones on free ports, started when asked for."""

from collections.abc import Iterator

import pytest

from infra.services.kafka import Kafka
from infra.services.local import Services, free_ports, local_services
from infra.services.postgres import Postgres
from infra.services.redis import Redis


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """None of them runs yet; all are stopped at the end."""
    made = local_services(tmp_path_factory.mktemp("servers"), free_ports(), bound=True)
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
