"""Picks the concrete log, database, artifact store and keyring for a process: the one place that knows which."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from infra.artifacts import ArtifactStore
from infra.database.engine import Database, open_database, sqlite_url
from infra.envelopes import Sealer
from infra.eventlog.base import EventLog
from infra.eventlog.sqlite import SqliteEventLog
from infra.identity import Identity
from infra.sealing import Keyring
from infra.secrets import engine_key, root_secret
from infra.settings import Settings


@dataclass(frozen=True)
class Ports:
    """Opened when first asked for; whoever made it closes it."""

    settings: Settings

    @cached_property
    def database(self) -> Database:
        return open_database(self.settings.infra.database_url or sqlite_url(self.home / "state.db"))

    @cached_property
    def eventlog(self) -> EventLog:
        return SqliteEventLog(self.home / "log.db", self.settings.infra.eventlog_partitions)

    @cached_property
    def artifacts(self) -> ArtifactStore:
        return ArtifactStore(self.settings.infra.artifacts_url or str(self.home / "artifacts"))

    @cached_property
    def keyring(self) -> Keyring:
        return Keyring(self.home / "keyring.db")

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
        for name in ("database", "eventlog"):
            if name in self.__dict__:
                self.__dict__[name].close()
