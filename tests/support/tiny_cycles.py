"""Whole cycles of a tiny model, trained in this process, and what becomes of them afterwards."""

from contextlib import closing
from pathlib import Path
from typing import Any

from infra.contracts.manifests import AdapterManifest, Evidence
from infra.database.tables import AdapterRow
from infra.ports import Ports
from infra.registry import adapters, cycles, fleet, leases
from infra.registry.cycles import CycleState
from tests.support.cycles import cycle_row, hold
from tests.support.home import make_ports
from tests.support.routing import make_route, make_table
from tests.support.tiny_training import tiny_environment
from trainer.cycle import Holding, Stage, run_stages
from trainer.stages.material import Material
from trainer.stages.table import stages_of
from trainer.workdir import work_dir


def make_tiny_ports(directory: Path, **settings: Any) -> Ports:
    return make_ports(directory / "home", **tiny_environment(directory, **settings))


class Killed(BaseException):
    """Stands for kill -9: nothing in the trainer catches it."""


def die(part: Path, _progress: object) -> dict[str, Any]:
    (part / "half").write_text("half")
    raise Killed


def train(ports: Ports, cycle_id: str, *, dies_in: CycleState | None = None) -> CycleState:
    lease = hold(ports, cycle_id, "trainer", ttl_s=600)
    holding = Holding(ports.database, cycle_id, lease, work_dir(ports.home, cycle_id))
    try:
        with closing(Material(ports, holding)) as material:
            return run_stages(holding, {**stages_of(material), **({dies_in: Stage(die)} if dies_in else {})})
    except Killed:
        with ports.database.transaction() as session:
            leases.release(session, lease)
        raise


def end(ports: Ports, cycle_id: str) -> None:
    lease = hold(ports, cycle_id, "serving")
    with ports.database.transaction() as session:
        cycles.advance(session, lease, cycle_id, CycleState.ACCEPTED)
        leases.release(session, lease)


def serve(ports: Ports, version: str) -> None:
    """The routing table sends everything to this version."""
    with ports.database.transaction() as session:
        lease = leases.acquire(session, "controller", "serving", 60)
        assert lease is not None
        base_revision = adapters.manifest_of(adapters.get(session, version)).base_revision
        route = make_route(version, base_revision=base_revision)
        fleet.publish_routing(session, lease, make_table(aliases={"assistant": route}))


def published(ports: Ports, cycle_id: str) -> AdapterRow:
    version = cycle_row(ports, cycle_id).version
    assert version is not None
    with ports.database.reading() as session:
        return adapters.get(session, version)


def manifest_of(ports: Ports, cycle_id: str) -> AdapterManifest:
    return adapters.manifest_of(published(ports, cycle_id))


def evidence_of(ports: Ports, cycle_id: str) -> Evidence:
    version = published(ports, cycle_id).version
    return Evidence.model_validate(ports.artifacts.read_json(f"adapters/{version}/evidence.json"))


def result_of(ports: Ports, cycle_id: str, state: CycleState) -> dict[str, Any]:
    """What a finished stage left."""
    found = work_dir(ports.home, cycle_id).result(state)
    assert found is not None
    return found
