"""Makes a state directory fit to start on: its folders, keys and database schema. Doing it again changes nothing."""

from pathlib import Path

from infra.base_model import NotAModel, check_model
from infra.contracts.events import TOPICS
from infra.database.migrate import migrate
from infra.ports import Ports
from infra.registry import keys
from infra.registry.keys import Scope
from infra.secrets import engine_key, make_keys, root_secret
from infra.settings import PROFILE_FILE, Settings

TENANT = "default"  # whom the two keys of the embedded mode belong to
SCOPES = {"client": (Scope.CHAT, Scope.FEEDBACK), "admin": tuple(Scope)}
MODEL_FILE = Path("run") / "model"
FOLDERS = ("artifacts", "logs", "run", "spool")


def key_file(home: Path) -> Path:
    return home / "keys.json"


def remember(settings: Settings) -> None:
    """For `up` without options, and for commands that need the base and the parts the stack was started with."""
    (settings.home / MODEL_FILE).write_text(settings.serving.model)
    (settings.home / PROFILE_FILE).write_text(settings.infra.profile)


def remembered_model(home: Path) -> str:
    """The directory, or an empty string where nothing was ever started here."""
    file = home / MODEL_FILE
    return file.read_text() if file.is_file() else ""


def base_directory(settings: Settings) -> Path:
    """Of the base as set, or else as last started; raises NotAModel."""
    if not (model := settings.serving.model or remembered_model(settings.home)):
        raise NotAModel("serving.model is not set and nothing was started here: there is no base to look at")
    return check_model(Path(model))


def prepare(settings: Settings) -> Path:
    """Returns the path of the key file.

    Raises SettingsError, OSError where the directory cannot be written, LogUnavailable, KeyringAway or
    SQLAlchemy's OperationalError where a server does not answer.
    """
    for folder in FOLDERS:
        (settings.home / folder).mkdir(parents=True, exist_ok=True)
    root_secret(settings)  # both made now, so that no process has to race for them
    engine_key(settings)
    ports = Ports(settings)
    try:
        migrate(ports.database)
        ports.keyring.describe()  # its tables too are made now
        ports.eventlog.prepare(dict.fromkeys(TOPICS, settings.infra.eventlog_retention_days))
        _register_keys(ports)
    finally:
        ports.close()
    return key_file(settings.home)


def _register_keys(ports: Ports) -> None:
    with ports.database.transaction() as session:
        for name, key in make_keys(ports.home).items():
            keys.add(session, key, tenant=TENANT, name=name, scopes=SCOPES[name], actor="setup")
