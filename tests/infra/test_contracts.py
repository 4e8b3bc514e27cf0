import copy
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from infra.contracts.base import Contract
from infra.contracts.events import Envelope, Inference
from infra.contracts.manifests import AdapterManifest, DatasetManifest, Evidence, GateReport, RewardManifest
from infra.contracts.routing import RoutingTable
from infra.contracts.schemas import breaking_changes, schemas, write
from tests.support.events import make_envelope, make_inference, make_sealer

CHECKED_IN = Path(__file__).parents[2] / "docs" / "schemas"


@pytest.mark.parametrize("name", schemas())
def test_a_contract_still_reads_what_its_checked_in_schema_wrote(name: str) -> None:
    old = json.loads((CHECKED_IN / f"{name}.json").read_text())
    assert list(breaking_changes(old, schemas()[name])) == []


@pytest.mark.parametrize("name", schemas())
def test_the_checked_in_schema_is_current(name: str) -> None:
    """Run `make docs` after a compatible change."""
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
        case "new value":
            schema["$defs"]["InferenceStatus"]["enum"].append("paused")
        case "added":
            schema["properties"]["colour"] = {"type": "string", "default": ""}
    return schema


@pytest.mark.parametrize("edit", ["removed", "required", "type", "nested", "enum", "new value"])
def test_an_incompatible_change_is_found(edit: str) -> None:
    assert len(list(breaking_changes(Inference.model_json_schema(), changed(edit)))) == 1


def test_a_new_optional_field_is_compatible() -> None:
    assert list(breaking_changes(Inference.model_json_schema(), changed("added"))) == []


def test_writing_the_schemas_brings_them_up_to_date(tmp_path: Path) -> None:
    assert write(tmp_path) == []
    assert {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()} == {
        f"{name}.json": schema for name, schema in schemas().items()
    }


def test_a_breaking_change_is_not_written_over_what_readers_rely_on(tmp_path: Path) -> None:
    write(tmp_path)
    older = tmp_path / "Inference.json"
    older.write_text(json.dumps(changed("added")))
    assert write(tmp_path) == ["Inference: colour was removed"]
    assert "colour" in older.read_text()


@pytest.mark.parametrize(
    "contract", [Envelope, DatasetManifest, RewardManifest, AdapterManifest, Evidence, GateReport, RoutingTable]
)
def test_what_comes_from_another_major_version_is_refused(contract: type[Contract]) -> None:
    with pytest.raises(ValidationError, match="2.0 is not readable"):
        contract.model_validate({"schema_version": "2.0"})


def test_a_newer_minor_version_with_unknown_fields_is_read(tmp_path: Path) -> None:
    envelope = make_envelope(make_sealer(tmp_path), make_inference())
    newer = {**envelope.model_dump(mode="json"), "schema_version": "1.9", "colour": "green"}
    assert Envelope.model_validate_json(json.dumps(newer)).event_id == envelope.event_id


def test_a_time_without_a_zone_is_refused(tmp_path: Path) -> None:
    envelope = make_envelope(make_sealer(tmp_path), make_inference())
    naive = {**envelope.model_dump(mode="json"), "occurred_at": "2026-03-10T12:00:00"}
    with pytest.raises(ValidationError, match="timezone"):
        Envelope.model_validate(naive)
