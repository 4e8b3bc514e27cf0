"""What the servers of the full profile say when they are asked who they are: for `doctor` and before a start."""

from collections.abc import Callable
from contextlib import closing

from infra.settings import InfraSettings, Settings

PATIENCE_S = 3


class ServerAway(RuntimeError):
    """A server could not be reached, or did not let us in."""


def kafka(settings: InfraSettings) -> str:
    from infra.eventlog.base import LogUnavailable
    from infra.ports import open_kafka

    with closing(open_kafka(settings)) as log:
        try:
            return log.describe()
        except LogUnavailable as error:
            raise ServerAway(str(error)) from error


def postgres(settings: InfraSettings) -> str:
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    from infra.database.engine import open_database

    with closing(open_database(settings.database_url.get_secret_value())) as database:
        try:
            with database.engine.connect() as connection:
                return f"PostgreSQL {connection.execute(text('SHOW server_version')).scalar()}"
        except SQLAlchemyError as error:
            raise ServerAway(first_line(error)) from error


def missing_topics(settings: InfraSettings) -> list[str]:
    from infra.contracts.events import TOPICS
    from infra.eventlog.base import LogUnavailable
    from infra.ports import open_kafka

    with closing(open_kafka(settings)) as log:
        try:
            return log.missing(TOPICS)
        except LogUnavailable as error:
            raise ServerAway(str(error)) from error


def schema(settings: Settings) -> str:
    """Of either profile; a file that is not there yet stays so. Raises SchemaMismatch, which says what mends it."""
    from sqlalchemy.exc import SQLAlchemyError

    from infra.database.schema import check_schema, stored_revision
    from infra.ports import DATABASE_FILE, Ports

    if not settings.infra.database_url.get_secret_value() and not (settings.home / DATABASE_FILE).exists():
        return "will be made at the first start"
    with closing(Ports(settings)) as ports:
        try:
            if (revision := stored_revision(ports.database)) is None:
                return "will be made at the first start"
            check_schema(ports.database)
        except SQLAlchemyError as error:
            raise ServerAway(first_line(error)) from error
    return f"migration {revision}"


def ahead_s(settings: InfraSettings) -> float:
    """By how much the clock of this machine is ahead of PostgreSQL's; half of what asking took is taken off."""
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    from infra.clock import now
    from infra.database.engine import open_database

    with closing(open_database(settings.database_url.get_secret_value())) as database:
        try:
            with database.engine.connect() as connection:
                asked = now()
                there = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
                took = now() - asked
        except SQLAlchemyError as error:
            raise ServerAway(first_line(error)) from error
    return float((asked + took / 2 - there).total_seconds())


def redis(settings: InfraSettings) -> str:
    from redis import Redis, RedisError

    with Redis.from_url(settings.redis_url.get_secret_value(), socket_timeout=PATIENCE_S) as client:
        try:
            return f"Redis {client.info('server')['redis_version']}"
        except RedisError as error:
            raise ServerAway(str(error)) from error


def keyring(settings: Settings) -> str:
    """Of either profile; a file that is not there yet stays so."""
    from infra.keystore.base import KeyringAway
    from infra.ports import KEYRING_FILE, open_keystore

    if not settings.infra.keyring_url.get_secret_value() and not (settings.home / KEYRING_FILE).exists():
        return "will be made at the first start"
    try:
        with closing(open_keystore(settings)) as store:
            return store.describe()
    except KeyringAway as error:
        raise ServerAway(str(error)) from error


SERVERS: dict[str, Callable[[InfraSettings], str]] = {"kafka": kafka, "postgres": postgres, "redis": redis}


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
