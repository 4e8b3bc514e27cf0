"""The controller's checks, made by hand: same files, same rules, nothing loaded and nothing stored."""

import tempfile
from pathlib import Path

from infra.clock import now
from infra.contracts.manifests import GateReport
from infra.contracts.routing import BASE_VERSION
from infra.home import base_directory
from infra.ports import Ports
from infra.registry import adapters, fleet
from serving.adapters import read_bases
from serving.errors import Refused
from serving.evidence import Shelf
from serving.gates.subject import Subject, files_named
from serving.report import make_report


def refusal(ports: Ports, version: str, tenant: str) -> str | None:
    """Why it must not be loaded, None where nothing speaks against it; raises NotFound or NotAModel."""
    with tempfile.TemporaryDirectory() as scratch:
        return _take(ports, _shelf(ports, Path(scratch)), version, tenant)


def gate_report(ports: Ports, version: str, tenant: str) -> GateReport:
    """The stored report, or one made from the evidence, without a smoke; raises NotFound or NotAModel."""
    with ports.database.reading() as session:
        row = adapters.get(session, version, tenant)
        table = fleet.routing_table(session)
    if row.gates is not None:
        return GateReport.model_validate(row.gates)
    route = table.aliases.get(row.alias) if table else None
    with tempfile.TemporaryDirectory() as scratch:
        shelf = _shelf(ports, Path(scratch))
        reason = _take(ports, shelf, version, tenant)
        subject = Subject(
            evidence=shelf.evidence(version),
            champion=route.champion if route else BASE_VERSION,
            settings=ports.settings.serving,
            refusal=reason,
            wanted=files_named(row.manifest.get("settings", {})),
        )
    return make_report(version, subject, now())


def _shelf(ports: Ports, scratch: Path) -> Shelf:
    """A shelf of its own: the controller's holds what engines read."""
    settings = ports.settings.serving
    bases = read_bases(settings, base_directory(ports.settings))
    return Shelf(scratch, ports.artifacts, bases, settings.max_lora_rank)


def _take(ports: Ports, shelf: Shelf, version: str, tenant: str) -> str | None:
    with ports.database.reading() as session:
        row = adapters.get(session, version, tenant)
    try:
        shelf.take(adapters.manifest_of(row), row.path)
    except Refused as error:
        return str(error)
    return None
