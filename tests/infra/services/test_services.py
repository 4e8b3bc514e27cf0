"""The servers that `make services` starts, as the tests of everything else use them too."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import psycopg
import pytest
import redis as redis_client
from sqlalchemy import create_engine, text

from infra.preflight import free_port
from infra.processes import wait_until_gone
from infra.services.base import HOST, Service, ServiceError
from infra.services.kafka import Kafka, new_cluster_id
from infra.services.local import free_ports, local_services, write_settings
from infra.services.postgres import Postgres
from infra.services.redis import Redis
from infra.settings import load_settings

STARTER = """
import sys
from pathlib import Path
from infra.services.postgres import Postgres
Postgres(Path(sys.argv[1]), int(sys.argv[2]), bound=True).start()
print("started", flush=True)
sys.stdin.read()
"""


def kill(service: Service) -> None:
    record = service.record
    assert record is not None
    os.kill(record.pid, signal.SIGKILL)
    assert wait_until_gone(record, timeout_s=30)


def test_what_runs_already_is_left_alone(redis: Redis) -> None:
    before = redis.record
    redis.start()
    assert redis.record == before


def test_a_killed_postgres_comes_back_with_what_it_held(postgres: Postgres) -> None:
    engine = create_engine(postgres.url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS kept (number int)"))
        connection.execute(text("INSERT INTO kept VALUES (7)"))
    engine.dispose()
    kill(postgres)
    postgres.start()
    with engine.begin() as connection:
        assert connection.execute(text("SELECT max(number) FROM kept")).scalar() == 7
        connection.execute(text("DROP TABLE kept"))
    engine.dispose()


def test_a_killed_redis_comes_back_with_what_it_held(redis: Redis) -> None:
    with redis_client.Redis.from_url(redis.url) as client:
        client.set("kept", "7")
    kill(redis)
    redis.start()
    with redis_client.Redis.from_url(redis.url) as client:
        assert client.getdel("kept") == b"7"


def test_stopping_what_does_not_run_is_no_error(tmp_path: Path) -> None:
    assert local_services(tmp_path, free_ports()).stop() == []


def test_nobody_gets_in_without_the_password(postgres: Postgres, redis: Redis) -> None:
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(host=HOST, port=postgres.port, user="thumbwheel", dbname="thumbwheel", password="guess")
    with redis_client.Redis(HOST, redis.port) as client, pytest.raises(redis_client.AuthenticationError):
        client.ping()


def test_whoever_may_not_read_the_settings_file_learns_no_password(tmp_path: Path) -> None:
    servers = local_services(tmp_path, free_ports())
    for service in servers:
        service.directory.mkdir(parents=True)
    write_settings(tmp_path, servers)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_the_full_profile_finds_the_servers_that_were_started_here(tmp_path: Path) -> None:
    servers = local_services(tmp_path, free_ports())
    for service in servers:
        service.directory.mkdir(parents=True)
    write_settings(tmp_path, servers)
    infra = load_settings(tmp_path, {"THUMBWHEEL_INFRA__PROFILE": "full"}).infra
    assert infra.kafka_bootstrap_servers == (servers.kafka.address,)
    assert infra.database_url.get_secret_value() == servers.postgres.url
    assert infra.redis_url.get_secret_value() == servers.redis.url
    assert load_settings(tmp_path, {}).infra.database_url.get_secret_value() == ""


@pytest.mark.parametrize("name", ["kafka", "redis"])
def test_a_server_that_is_not_installed_is_named_with_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceError, match="make services"):
        getattr(local_services(tmp_path, free_ports()), name).start()


def test_a_server_that_cannot_start_says_why(tmp_path: Path, redis: Redis) -> None:
    second = Redis(tmp_path, redis.port, bound=True)
    with pytest.raises(ServiceError, match="redis ended at its start: .*(bind|listen|Address)"):
        second.start()


def test_a_bound_postgres_ends_with_whoever_started_it_though_it_has_a_client(postgres: Postgres) -> None:
    assert postgres.record is not None  # it is installed
    with TemporaryDirectory(prefix="thumbwheel-bound-") as directory:
        home = Path(directory)
        home.chmod(0o711)
        bound = Postgres(home / "postgres", free_port(HOST))
        words = [sys.executable, "-c", STARTER, str(bound.directory), str(bound.port)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
            assert starter.stdout is not None
            assert starter.stdout.readline() == b"started\n"
            record, client = bound.record, create_engine(bound.url).connect()
            assert record is not None
            starter.kill()
            assert wait_until_gone(record, 20)
        client.invalidate()
        client.close()
        client.engine.dispose()


def test_the_id_of_a_cluster_never_looks_like_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([UUID(int=0xF8 << 120), UUID(int=7)])  # the first begins with a dash
    monkeypatch.setattr("infra.services.kafka.uuid4", lambda: next(drawn))
    assert new_cluster_id() == "AAAAAAAAAAAAAAAAAAAABw"


def test_a_killed_kafka_comes_back_with_its_topics(kafka: Kafka) -> None:
    from infra.eventlog.kafka import Connection, KafkaEventLog

    log = KafkaEventLog(Connection([kafka.address], prefix="killed."), 2)
    log.prepare({"thumbwheel.feedback.v1": 1})
    log.close()
    kill(kafka)
    kafka.start()
    assert len(log.end_offsets(["thumbwheel.feedback.v1"])) == 2
    log.close()
