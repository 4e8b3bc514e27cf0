"""All settings, one frozen section per room, read from environment and one TOML file here and nowhere else.

`THUMBWHEEL_<SECTION>__<FIELD>` wins over `config.toml` in the state directory, which wins over the defaults. Under the
full profile what `thumbwheel services start` wrote down comes before the defaults.
"""

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, SecretStr, ValidationError

from infra.sections.base import Section
from infra.sections.feedback import FeedbackSettings
from infra.sections.gateway import GatewaySettings
from infra.sections.infrastructure import InfraSettings
from infra.sections.serving import ServingSettings
from infra.sections.trainer import NOT_PER_CYCLE, TrainerSettings
from infra.sizes import BY_SIZE

__all__ = [
    "CONFIG_VARIABLE", "HOME_VARIABLE", "NOT_PER_CYCLE", "PROFILE_FILE", "SERVICES_FILE", "FeedbackSettings",
    "GatewaySettings", "InfraSettings", "ServingSettings", "Setting", "Settings", "SettingsError", "TrainerSettings",
    "cache_directory", "describe_settings", "from_text", "home_directory", "load_settings", "secret_named", "shown",
    "variable",
]  # fmt: skip

PREFIX = "THUMBWHEEL_"
HOME_VARIABLE = "THUMBWHEEL_HOME"
CONFIG_VARIABLE = "THUMBWHEEL_CONFIG"
PROFILE_FILE = Path("run") / "profile"  # what the stack was started on last: commands look at the same parts
SERVICES_FILE = Path("services") / "settings.toml"  # where the servers of this machine are
URL_PASSWORD = re.compile(r"(?<=:)[^:/@]+(?=@)")
MASK = "********"
ENVIRONMENT = "environment"


class SettingsError(ValueError):
    """A setting is unknown or bad. The message names each one and what is wrong with it."""


class Settings(Section):
    """The whole; a room gets its own section only."""

    infra: InfraSettings = InfraSettings()
    gateway: GatewaySettings = GatewaySettings()
    feedback: FeedbackSettings = FeedbackSettings()
    trainer: TrainerSettings = TrainerSettings()
    serving: ServingSettings = ServingSettings()
    home: Path = Field(Path(".thumbwheel"), description="The state directory; deleting it is a clean start.")


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of `thumbwheel settings`. `value` is masked where it is secret."""

    name: str
    value: Any
    source: str
    default: Any
    description: str


def home_directory(environ: Mapping[str, str] | None = None) -> Path:
    """The state directory, for what must work before any setting is right."""
    env = os.environ if environ is None else environ
    return Path(env.get(HOME_VARIABLE, ".thumbwheel")).absolute()


def cache_directory(environ: Mapping[str, str] | None = None) -> Path:
    """What may be fetched again: shared by all checkouts of this user."""
    env = os.environ if environ is None else environ
    return Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thumbwheel"


def load_settings(home: Path | None = None, environ: dict[str, str] | None = None) -> Settings:
    """Raises SettingsError naming every unknown or bad setting."""
    env = dict(os.environ) if environ is None else environ
    root = home.absolute() if home else home_directory(env)
    merged: dict[str, Any] = {}
    for found in reversed(_sources(root, env).values()):
        merged = _merge(merged, found)
    try:
        return Settings(home=root, **merged)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def secret_named(name: str, environ: Mapping[str, str] | None = None) -> SecretStr:
    """The secret in the environment variable that a setting names; raises SettingsError where it holds none."""
    value = (os.environ if environ is None else environ).get(name, "")
    if not value:
        raise SettingsError(f"the environment variable {name}, which a setting names, is not set")
    return SecretStr(value)


def describe_settings(settings: Settings, environ: dict[str, str] | None = None) -> Iterator[Setting]:
    """Every setting with its value, where it came from, its default and its description."""
    env = dict(os.environ) if environ is None else environ
    sources = _sources(settings.home, env)
    for section_name in ("infra", "gateway", "feedback", "trainer", "serving"):
        section: Section = getattr(settings, section_name)
        for name, field in type(section).model_fields.items():
            unsaid = _unsaid(section, name)
            source = next((told for told, found in sources.items() if name in found.get(section_name, {})), unsaid)
            told = variable(section_name, name) if source == ENVIRONMENT else source
            value, default = shown(getattr(section, name)), shown(field.default)
            yield Setting(f"{section_name}.{name}", value, told, default, field.description or "")


def shown(value: Any) -> Any:
    """As it would be written, without what is secret: of an address only the password is."""
    if isinstance(value, tuple):
        return tuple(shown(item) for item in value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    if not isinstance(value, SecretStr):
        return value
    secret = value.get_secret_value()
    return URL_PASSWORD.sub(MASK, secret) if "://" in secret or not secret else MASK


def _unsaid(section: Section, name: str) -> str:
    """Where a value comes from that nobody set by name."""
    if isinstance(section, TrainerSettings) and name in BY_SIZE[section.size]:
        return f"size={section.size}"
    return "default"


def variable(section: str, name: str) -> str:
    """The environment variable of one setting."""
    return f"{PREFIX}{section}__{name}".upper()


def from_text(section: Any, name: str, value: str) -> Any:
    """A setting from the environment or a command line: lists have commas, shares also =, what has more to it is JSON;
    pydantic reads the rest. Raises SettingsError."""
    if value.lstrip().startswith(("[", "{")):
        return _from_json(name, value)
    default = getattr(section, "model_fields", {}).get(name)
    parts = tuple(part.strip() for part in value.split(",") if part.strip())
    if default is not None and isinstance(default.default, dict):
        return {key.strip(): share for key, _, share in (part.partition("=") for part in parts)}
    return parts if default is not None and isinstance(default.default, tuple) else value


def _from_json(name: str, value: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError as error:
        raise SettingsError(f"{name}: it begins like JSON and is none: {error}") from None


def _sources(home: Path, env: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What each source says, the one that wins first."""
    found = {
        ENVIRONMENT: _from_environment(env),
        "config.toml": _from_file(home, env),
        "last start": _from_last_start(home),
    }
    profile = next((said["infra"]["profile"] for said in found.values() if "profile" in said.get("infra", {})), None)
    if profile == "full" and (home / SERVICES_FILE).is_file():
        found["make services"] = tomllib.loads((home / SERVICES_FILE).read_text())
    return found


def _from_last_start(home: Path) -> dict[str, Any]:
    path = home / PROFILE_FILE
    return {"infra": {"profile": path.read_text()}} if path.is_file() else {}


def _from_file(home: Path, env: dict[str, str]) -> dict[str, Any]:
    path = Path(env[CONFIG_VARIABLE]) if CONFIG_VARIABLE in env else home / "config.toml"
    if not path.exists():
        if CONFIG_VARIABLE in env:
            raise SettingsError(f"{CONFIG_VARIABLE} names {path}, which does not exist")
        return {}
    try:
        return tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: {error}") from None


def _from_environment(env: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in env.items():
        section, separator, name = key.removeprefix(PREFIX).lower().partition("__")
        if key.startswith(PREFIX) and separator:
            field = Settings.model_fields.get(section)
            found.setdefault(section, {})[name] = from_text(field.annotation if field else None, name, value)
    return found


def _merge(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    sections = lower.keys() | upper.keys()
    return {name: {**lower.get(name, {}), **upper.get(name, {})} for name in sections}


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"])
        reason = "there is no such setting" if item["type"] == "extra_forbidden" else item["msg"]
        lines.append(f"{name}: {reason} (see `thumbwheel settings`)")
    return "\n".join(lines)
