"""Redis: Celery's broker and results, and who tells gateways of a new routing table. Nothing lives only here."""

import shutil
from pathlib import Path

import redis

from infra.secrets import kept_secret, write_private
from infra.services.base import HOST, NotInstalled, Service

BINARY = "redis-server"


class Redis(Service):
    name = "redis"

    def prepare(self) -> None:
        """The password stays out of the command line, which everyone on the machine can read."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if shutil.which(BINARY) is None:
            raise NotInstalled(BINARY)
        lines = {
            "bind": HOST,
            "port": self.port,
            "dir": self.directory,
            "requirepass": self._password,
            "appendonly": "yes",
            "save": '""',
        }
        conf = self._conf
        conf.unlink(missing_ok=True)
        write_private(conf, "".join(f"{name} {value}\n" for name, value in lines.items()))

    def argv(self) -> list[str]:
        return [BINARY, str(self._conf)]

    def check(self) -> str:
        with redis.Redis.from_url(self.url, socket_timeout=1) as client:
            return f"Redis {client.info('server')['redis_version']}"

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{HOST}:{self.port}/0"

    @property
    def _conf(self) -> Path:
        return self.directory / "redis.conf"

    @property
    def _password(self) -> str:
        return kept_secret(self.directory / "password")
