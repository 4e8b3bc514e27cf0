"""A state directory with a migrated database, as a process would find it."""

import atexit
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from infra.database.engine import open_database, sqlite_url
from infra.database.migrate import migrate
from infra.ports import Ports
from infra.settings import load_settings


def make_ports(home: Path, **environ: str) -> Ports:
    """Ports on `home`, which may have been used before; `environ` is all the environment there is."""
    put_database(home)
    return Ports(load_settings(home, environ))


def put_database(home: Path) -> None:
    """An empty database at the newest schema, unless there is one: copied, since migrating takes a while."""
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "state.db").exists():
        shutil.copy(_migrated(), home / "state.db")


@lru_cache
def _migrated() -> Path:
    """Made once per test run."""
    directory = Path(tempfile.mkdtemp(prefix="thumbwheel-"))
    atexit.register(shutil.rmtree, directory)
    database = open_database(sqlite_url(directory / "state.db"))
    migrate(database)
    database.close()  # the last connection takes the WAL into the file
    return directory / "state.db"
