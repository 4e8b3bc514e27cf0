import copy
import json
from pathlib import Path
from typing import Any

import pytest

from infra.contracts.events import Inference
from infra.contracts.schemas import breaking_changes, schemas

CHECKED_IN = Path(__file__).parents[2] / "docs" / "schemas"


@pytest.mark.parametrize("name", schemas())
def test_a_contract_still_reads_what_its_checked_in_schema_wrote(name: str) -> None:
    old = json.loads((CHECKED_IN / f"{name}.json").read_text())
    assert list(breaking_changes(old, schemas()[name])) == []


@pytest.mark.parametrize("name", schemas())
def test_the_checked_in_schema_is_current(name: str) -> None:
    """Run `make schemas` after a compatible change."""
    assert json.loads((CHECKED_IN / f"{name}.json").read_text()) == schemas()[name]


def changed(edit: str) -> dict[str, Any]:
    schema = copy.deepcopy(Inference.model_json_schema())
    match edit:
        case "removed":
            del schema["properties"]["alias"]
        case "required":
            schema["required"].append("turn")
        case "type":
            schema["properties"]["turn"]["type"] = "string"
        case "nested":
            del schema["$defs"]["Choice"]["properties"]["token_ids"]
        case "enum":
            schema["$defs"]["InferenceStatus"]["enum"].remove("cancelled")
        case "added":
            schema["properties"]["colour"] = {"type": "string", "default": ""}
    return schema


@pytest.mark.parametrize("edit", ["removed", "required", "type", "nested", "enum"])
def test_an_incompatible_change_is_found(edit: str) -> None:
    assert len(list(breaking_changes(Inference.model_json_schema(), changed(edit)))) == 1


def test_a_new_optional_field_is_compatible() -> None:
    assert list(breaking_changes(Inference.model_json_schema(), changed("added"))) == []
