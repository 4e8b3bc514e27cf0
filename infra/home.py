"""Makes a state directory fit to start on: its folders, keys and database schema. Doing it again changes nothing."""

from pathlib import Path

from infra.database.migrate import migrate
from infra.ports import Ports
from infra.registry import keys
from infra.registry.keys import Scope
from infra.secrets import engine_key, make_keys, root_secret
from infra.settings import Settings

TENANT = "default"  # whom the two keys of the embedded mode belong to
SCOPES = {"client": (Scope.CHAT, Scope.FEEDBACK), "admin": tuple(Scope)}
FOLDERS = ("artifacts", "logs", "run", "spool")


def key_file(home: Path) -> Path:
    return home / "keys.json"


def prepare(settings: Settings) -> Path:
    """Returns the path of the key file. Raises SettingsError, or OSError where the directory cannot be written."""
    for folder in FOLDERS:
        (settings.home / folder).mkdir(parents=True, exist_ok=True)
    root_secret(settings)  # both made now, so that no process has to race for them
    engine_key(settings)
    ports = Ports(settings)
    try:
        migrate(ports.database)
        _register_keys(ports)
    finally:
        ports.close()
    return key_file(settings.home)


def _register_keys(ports: Ports) -> None:
    with ports.database.transaction() as session:
        for name, key in make_keys(ports.home).items():
            keys.add(session, key, tenant=TENANT, name=name, scopes=SCOPES[name], actor="setup")
