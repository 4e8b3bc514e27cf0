"""A state directory with a migrated database, as a process would find it."""

from pathlib import Path

from infra.database.migrate import migrate
from infra.ports import Ports
from infra.settings import load_settings


def make_ports(home: Path, **environ: str) -> Ports:
    """Ports on a fresh home; `environ` is all the environment there is."""
    home.mkdir(parents=True, exist_ok=True)
    ports = Ports(load_settings(home, environ))
    migrate(ports.database)
    return ports
