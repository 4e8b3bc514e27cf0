"""Secrets of the embedded mode: made at the first start, mode 0600. Any other mode must be given its own."""

import json
import os
import secrets
from pathlib import Path

from infra.identity import new_key
from infra.settings import Settings, SettingsError

KEY_NAMES = ("client", "admin")


def root_secret(settings: Settings) -> bytes:
    """Keys tokens, response handles and rater hashes; raises SettingsError where a full profile has none."""
    if settings.infra.secret is not None:
        return settings.infra.secret.get_secret_value().encode()
    if settings.infra.profile != "embedded":
        raise SettingsError("infra.secret: must be set outside the embedded profile")
    return kept_secret(settings.home / "run" / "secret").encode()


def engine_key(settings: Settings) -> str:
    return kept_secret(settings.home / "run" / "engine-key")


def read_keys(home: Path) -> dict[str, str]:
    """{"client", "admin"}; raises SettingsError before the first start."""
    path = home / "keys.json"
    if not path.is_file():
        raise SettingsError(f"{path} does not exist: start Thumbwheel once with `thumbwheel up`")
    return {str(name): str(key) for name, key in json.loads(path.read_text()).items()}


def make_keys(home: Path) -> dict[str, str]:
    """The two keys of the embedded mode, made once."""
    if not (home / "keys.json").is_file():
        write_private(home / "keys.json", json.dumps({name: new_key() for name in KEY_NAMES}, indent=1))
    return read_keys(home)


def kept_secret(path: Path) -> str:
    if not path.is_file():
        write_private(path, secrets.token_hex(32))
    return path.read_text().strip()


def write_private(path: Path, text: str) -> None:
    """Appears whole with mode 0600; of two writers at once the first one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    try:
        os.link(aside, path)
    except FileExistsError:
        pass
    finally:
        aside.unlink()
