"""JSON Schemas of every contract, and whether a change of one would break its readers."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infra.contracts import events, manifests, queries, rollouts, routing
from infra.contracts.base import Contract

PUBLISHED: tuple[type[Contract], ...] = (
    events.Envelope,
    events.Inference,
    events.Feedback,
    events.Erasure,
    events.DeadLetter,
    rollouts.RolloutEvent,
    manifests.DatasetManifest,
    manifests.RewardManifest,
    manifests.AdapterManifest,
    manifests.Evidence,
    manifests.GateReport,
    queries.Queries,
    routing.RoutingTable,
)


def schemas() -> dict[str, dict[str, Any]]:
    """Contract name -> JSON Schema, as checked in under `docs/schemas/`."""
    return {contract.__name__: contract.model_json_schema() for contract in PUBLISHED}


def write(directory: Path) -> list[str]:
    """Brings the checked-in schemas up to date; returns what readers would stumble over, and then writes nothing."""
    found = schemas()
    stored = {name: directory / f"{name}.json" for name in found}
    broken = [
        f"{name}: {change}"
        for name, path in stored.items()
        if path.exists()
        for change in breaking_changes(json.loads(path.read_text()), found[name])
    ]
    for name, path in stored.items() if not broken else ():
        path.write_text(json.dumps(found[name], indent=1, sort_keys=True) + "\n")
    return broken


def breaking_changes(old: dict[str, Any], new: dict[str, Any], where: str = "") -> Iterator[str]:
    """What an old reader or an old message would stumble over: a field gone, newly required, or of another type."""
    for name in old.get("properties", {}):
        if name not in new.get("properties", {}):
            yield f"{where}{name} was removed"
    for name in set(new.get("required", [])) - set(old.get("required", [])):
        yield f"{where}{name} became required"
    for name in old.get("properties", {}).keys() & new.get("properties", {}).keys():
        if _shape(old["properties"][name]) != _shape(new["properties"][name]):
            yield f"{where}{name} changed its type"
    for value in sorted(set(old.get("enum", [])) - set(new.get("enum", []))):
        yield f"{where}value {value} was removed"
    for value in sorted(set(new.get("enum", [])) - set(old.get("enum", []))):
        yield f"{where}value {value} was added, which no reader of today takes"
    for name in old.get("$defs", {}).keys() & new.get("$defs", {}).keys():
        yield from breaking_changes(old["$defs"][name], new["$defs"][name], f"{where}{name}.")


def _shape(schema: dict[str, Any]) -> Any:
    """The schema without what readers don't depend on."""
    if isinstance(schema, dict):
        ignored = ("description", "title", "default", "examples")
        return {key: _shape(value) for key, value in schema.items() if key not in ignored}
    return [_shape(part) for part in schema] if isinstance(schema, list) else schema


if __name__ == "__main__":
    if changes := write(Path(sys.argv[1])):
        sys.exit("a new major version is needed:\n" + "\n".join(changes))
