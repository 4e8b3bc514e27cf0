"""Picks the concrete log, database, artifact store and keyring for a process: the one place that knows which."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from infra.artifacts import ArtifactStore
from infra.bell import Bell, NoBell
from infra.database.engine import Database, open_database, sqlite_url
from infra.envelopes import Sealer
from infra.eventlog.base import EventLog
from infra.eventlog.sqlite import SqliteEventLog
from infra.identity import Identity
from infra.keystore.base import KeyStore
from infra.keystore.postgres import PostgresKeyStore
from infra.keystore.sqlite import SqliteKeyStore
from infra.sealing import Keyring
from infra.secrets import engine_key, root_secret
from infra.settings import InfraSettings, Settings

if TYPE_CHECKING:
    from infra.eventlog.kafka import KafkaEventLog

DATABASE_FILE = "state.db"
KEYRING_FILE = "keyring.db"


@dataclass(frozen=True)
class Ports:
    """Opened when first asked for; whoever made it closes it."""

    settings: Settings

    @cached_property
    def database(self) -> Database:
        return open_database(
            self.settings.infra.database_url.get_secret_value() or sqlite_url(self.home / DATABASE_FILE)
        )

    @cached_property
    def eventlog(self) -> EventLog:
        if self.settings.infra.profile == "full":
            return open_kafka(self.settings.infra)
        return SqliteEventLog(self.home / "log.db", self.settings.infra.eventlog_partitions)

    @cached_property
    def bell(self) -> Bell:
        return open_bell(self.settings.infra) if self.settings.infra.profile == "full" else NoBell()

    @cached_property
    def artifacts(self) -> ArtifactStore:
        return ArtifactStore(self.settings.infra.artifacts_url or str(self.home / "artifacts"))

    @cached_property
    def keyring(self) -> Keyring:
        return Keyring(open_keystore(self.settings))

    @cached_property
    def sealer(self) -> Sealer:
        return Sealer(self.keyring, self.artifacts, self.settings.gateway.inline_body_limit)

    @cached_property
    def identity(self) -> Identity:
        return Identity(root_secret(self.settings))

    @cached_property
    def engine_key(self) -> str:
        """What the private engines ask of whoever calls them."""
        return engine_key(self.settings)

    @property
    def home(self) -> Path:
        return self.settings.home

    def close(self) -> None:
        for name in ("database", "eventlog", "bell", "keyring"):
            if name in self.__dict__:
                self.__dict__[name].close()


def open_keystore(settings: Settings) -> KeyStore:
    url = settings.infra.keyring_url.get_secret_value()
    return PostgresKeyStore(url) if url else SqliteKeyStore(settings.home / KEYRING_FILE)


def open_bell(settings: InfraSettings) -> Bell:
    """Imported only where it is used, as Kafka is."""
    from infra.redis_bell import RedisBell

    return RedisBell(settings.redis_url.get_secret_value())


def open_kafka(settings: InfraSettings) -> "KafkaEventLog":
    """Imported only where it is used: it costs a third of a second."""
    from infra.eventlog.kafka import Connection, KafkaEventLog

    options = {
        "security_protocol": settings.kafka_security_protocol,
        "sasl_mechanism": settings.kafka_sasl_mechanism,
        "sasl_plain_username": settings.kafka_sasl_username,
        "sasl_plain_password": settings.kafka_sasl_password.get_secret_value(),
        "ssl_cafile": settings.kafka_ssl_cafile,
        "ssl_certfile": settings.kafka_ssl_certfile,
        "ssl_keyfile": settings.kafka_ssl_keyfile,
    }
    security = {name: value for name, value in options.items() if value}
    connection = Connection(settings.kafka_bootstrap_servers, settings.kafka_topic_prefix, security)
    return KafkaEventLog(connection, settings.eventlog_partitions)
