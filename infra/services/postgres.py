"""PostgreSQL: events as they were joined, datasets, and the registry."""

import os
import re
import shutil
import signal
from pathlib import Path

import psycopg
from psycopg import sql

from infra.secrets import kept_secret
from infra.services.base import HOST, NotInstalled, Service, ServiceError, run

DEBIAN = Path("/usr/lib/postgresql")
ROLE = DATABASE = "thumbwheel"
OTHER_USER = "postgres"  # the server refuses to run as root; Debian's package makes this one


class Postgres(Service):
    name = "postgres"
    stop_signal = signal.SIGINT  # ends connections; at SIGTERM it waits until its clients have gone

    def prepare(self) -> None:
        """A cluster of its own, with a generated password; made aside, so that half of one is never used."""
        self.directory.mkdir(parents=True, exist_ok=True)
        password = self._password
        if self._data.is_dir():
            return
        self._make_reachable()
        aside, secret = self.directory / "data.new", self.directory / "password.init"
        shutil.rmtree(aside, ignore_errors=True)
        secret.write_text(password)
        self._own(secret)
        run(
            [_binary("initdb"), "-D", str(aside), "-U", ROLE, "--pwfile", str(secret), "-A", "scram-sha-256",
             "-E", "UTF8", "--locale", "C.UTF-8"],
            what="initdb", user=self.user(), cwd=self.directory,
        )  # fmt: skip
        secret.unlink()
        aside.rename(self._data)

    def argv(self) -> list[str]:
        return [
            _binary("postgres"), "-D", str(self._data), "-h", HOST, "-p", str(self.port),
            "-c", "unix_socket_directories=", "-c", "max_connections=200",
        ]  # fmt: skip

    def check(self) -> str:
        with self._connect("postgres") as connection:
            row = connection.execute("SHOW server_version").fetchone()
        assert row is not None
        return f"PostgreSQL {row[0]}"

    def finish(self) -> None:
        self.create(DATABASE)

    def user(self) -> str | None:
        return OTHER_USER if os.geteuid() == 0 else None

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """What SQLAlchemy takes."""
        return f"postgresql+psycopg://{ROLE}:{self._password}@{HOST}:{self.port}/{database}"

    def create(self, database: str) -> None:
        """Makes the database where it is missing."""
        with self._connect("postgres") as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))

    def _connect(self, database: str) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(
            host=HOST, port=self.port, user=ROLE, password=self._password, dbname=database, connect_timeout=2,
            autocommit=True,
        )  # fmt: skip

    def _make_reachable(self) -> None:
        """Where the server is another user, every folder above must let it pass."""
        if (user := self.user()) is None:
            return
        self._own(self.directory)
        for folder in self.directory.parents:
            if not folder.stat().st_mode & 0o001:
                raise ServiceError(
                    f"the user {user}, as whom PostgreSQL runs, cannot enter {folder}:"
                    " set THUMBWHEEL_HOME to a place it can reach, or run as another user than root"
                )

    def _own(self, path: Path) -> None:
        if user := self.user():
            shutil.chown(path, user)

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    @property
    def _password(self) -> str:
        return kept_secret(self.directory / "password")


def _binary(name: str) -> str:
    """The newest installed; Debian keeps them off the path."""
    if found := shutil.which(name):
        return found
    installed = sorted(DEBIAN.glob(f"*/bin/{name}"), key=lambda path: int(re.sub(r"\D", "", path.parts[-3]) or 0))
    if not installed:
        raise NotInstalled("PostgreSQL")
    return str(installed[-1])
