from pathlib import Path

from infra.settings import Settings, describe_settings
from infra.settings_page import page

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_in_the_repository_is_current() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"


def test_every_setting_is_on_the_page_with_its_variable() -> None:
    text = page()
    for setting in describe_settings(Settings(), environ={}):
        assert f"| `{setting.name}` |" in text
        assert f"THUMBWHEEL_{setting.name.upper().replace('.', '__')}`" in text
