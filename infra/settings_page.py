"""docs/settings.md, made from the code: `python -m infra.settings_page`. A test says when the page is not current."""

import json
import sys
from itertools import groupby

from infra.settings import Setting, Settings, TrainerSettings, describe_settings, variable
from infra.sizes import BY_SIZE, MEANT_FOR, SIZES

HEAD = """\
# Settings

Made from `infra/sections/` by `make docs`; do not edit.

A setting comes from the environment (`THUMBWHEEL_<SECTION>__<NAME>`), else from `config.toml` in the state directory
(or the file that `THUMBWHEEL_CONFIG` names), else it has its default. `thumbwheel settings` prints what holds now and
where it came from. An unknown or bad setting stops the start with a line that names it.

`THUMBWHEEL_HOME` names the state directory (default `.thumbwheel` in the working directory); so does `--home`.
"""

SIZED = """
## What `trainer.size` sets

Whatever of these is set by name, anywhere, keeps its own value. Where the figures come from: `infra/sizes.py`.
"""


def page() -> str:
    """The whole page, with the defaults."""
    found = describe_settings(Settings(), environ={})
    sections = groupby(found, key=lambda setting: setting.name.partition(".")[0])
    return HEAD + "".join(_section(name, list(settings)) for name, settings in sections) + _sizes()


def _section(name: str, settings: list[Setting]) -> str:
    rows = "".join(_row(name, setting) for setting in settings)
    return f"\n## {name}\n\n| setting | default | what it does |\n|---|---|---|\n{rows}"


def _sizes() -> str:
    """What each of trainer.size sets, setting by setting."""
    names = [name for name in TrainerSettings.model_fields if any(name in BY_SIZE[size] for size in SIZES)]
    sized = [TrainerSettings(size=size) for size in SIZES]
    rows = "".join(f"| `{name}` | {' | '.join(_default(getattr(one, name)) for one in sized)} |\n" for name in names)
    heads, meant = " | ".join(f"`{size}`" for size in SIZES), " | ".join(MEANT_FOR[size] for size in SIZES)
    return f"{SIZED}\n| trainer | {heads} |\n|---|{'---|' * len(SIZES)}\n| the base has | {meant} |\n{rows}"


def _row(section: str, setting: Setting) -> str:
    name = setting.name.partition(".")[2]
    described = f"{setting.description}<br>`{variable(section, name)}`"
    return f"| `{setting.name}` | {_default(setting.default)} | {described} |\n"


def _default(value: object) -> str:
    if value is None or value in ("", ()):
        return ""
    if isinstance(value, tuple) and isinstance(value[0], dict):
        return "<br>".join(f"`{json.dumps(item)}`" for item in value)
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.stdout.write(page())
