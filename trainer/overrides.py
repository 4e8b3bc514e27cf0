"""A cycle's own settings: what its trigger asked for, on top of the trainer's."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from infra.settings import NOT_PER_CYCLE, SettingsError, TrainerSettings, from_text


def parse_assignments(pairs: Iterable[str]) -> dict[str, Any]:
    """`name=value` strings as a dict; raises SettingsError naming the one that is not."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            raise SettingsError(f"{pair!r} is not of the form name=value")
        name = name.strip().removeprefix("trainer.")
        found[name] = from_text(TrainerSettings, name, value.strip())
    return found


def effective(settings: TrainerSettings, overrides: Mapping[str, Any]) -> TrainerSettings:
    """The settings of one cycle; raises SettingsError naming every override that is unknown or bad.

    Only what was set by name goes along, so that a cycle's own `size` sets the rest.
    """
    if misplaced := sorted(NOT_PER_CYCLE & overrides.keys()):
        raise SettingsError(f"trainer.{misplaced[0]}: belongs to the worker and cannot be set for one cycle")
    try:
        return TrainerSettings.model_validate({**settings.model_dump(exclude_unset=True), **overrides})
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(error))) from None


def validated(settings: TrainerSettings, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Only the overrides, with their proper types: what the registry keeps. Raises SettingsError."""
    return effective(settings, overrides).model_dump(mode="json", include=set(overrides))


def _explain(error: ValidationError) -> Iterable[str]:
    for item in error.errors():
        name = ".".join(str(part) for part in item["loc"])
        reason = "there is no such setting" if item["type"] == "extra_forbidden" else item["msg"]
        yield f"trainer.{name}: {reason} (see `thumbwheel settings`)"
