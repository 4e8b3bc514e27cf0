"""Engines that are not what they seem: found ones with another base, restarted ones with other weights."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from infra.base_model import base_revision
from infra.contracts.routing import Replica, ReplicaState
from infra.ports import Ports
from infra.registry import fleet
from tests.support.adapters import make_adapter
from tests.support.control_engine import ControlEngine, running_control_engine
from tests.support.controllers import (
    SMOKE,
    accept,
    adapter_state,
    champion,
    controlling,
    eventually,
    promote,
    register_replica,
    replica,
    rollout_state,
    routing,
)
from tests.support.home import make_ports
from tests.support.tiny_model import make_tiny_model

QUICK = {"THUMBWHEEL_SERVING__POLL_S": "0.02", "THUMBWHEEL_SERVING__DISCOVERY_S": "0.02"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
async def own() -> AsyncIterator[ControlEngine]:
    async with running_control_engine(knows=[SMOKE]) as engine:
        yield engine


@pytest.fixture
async def other() -> AsyncIterator[ControlEngine]:
    async with running_control_engine(knows=[SMOKE], base="their-name") as engine:
        yield engine


def make_home(directory: Path, model: Path, *engines: ControlEngine, **environ: str) -> Ports:
    ports = make_ports(directory / "home", THUMBWHEEL_SERVING__MODEL=str(model), **QUICK, **environ)
    for engine in engines:
        engine.key = ports.engine_key
    return ports


def with_list(directory: Path, *engines: ControlEngine) -> dict[str, str]:
    write_list(directory, *engines)
    return {"THUMBWHEEL_SERVING__REPLICA_FILE": str(directory / "replicas")}


def write_list(directory: Path, *engines: ControlEngine) -> None:
    aside = directory / "replicas.new"
    aside.write_text("".join(f"{name(engine)}\n" for engine in engines) or "[]")
    aside.replace(directory / "replicas")


def name(engine: ControlEngine) -> str:
    return urlsplit(engine.address).netloc


def rows(ports: Ports) -> dict[str, Replica]:
    with ports.database.reading() as session:
        return {row.name: row for row in fleet.replicas(session)}


def is_ready(ports: Ports, of: str) -> bool:
    """As the gateways see it."""
    table = routing(ports)
    named = {r.name: r for r in table.replicas} if table else {}
    return of in named and named[of].state is ReplicaState.READY


async def test_a_replica_that_was_found_answers_once_it_computes_what_an_own_one_does(
    tmp_path: Path, model: Path, own: ControlEngine, other: ControlEngine
) -> None:
    ports = make_home(tmp_path, model, own, other, **with_list(tmp_path, other))
    register_replica(ports, own.address, base_revision(model))
    async with controlling(ports):
        await eventually(lambda: is_ready(ports, name(other)), "it was taken in")
        version = accept(ports, make_adapter(tmp_path / "made", model))
        rollout_id = promote(ports, version)
        await eventually(lambda: rollout_state(ports, rollout_id) == "done", "both took the version")
    found = replica(ports, name(other))
    assert (found.served_model, found.max_model_len, found.base_revision) == ("their-name", 512, base_revision(model))
    assert list(other.adapters) == list(own.adapters) == [version]
    ports.close()


async def test_one_with_another_base_gets_no_traffic_and_holds_back_no_rollout(
    tmp_path: Path, model: Path, own: ControlEngine, other: ControlEngine
) -> None:
    other.base_off = 0.5
    ports = make_home(tmp_path, model, own, other, **with_list(tmp_path, other))
    register_replica(ports, own.address, base_revision(model))
    async with controlling(ports):
        await eventually(lambda: "their-name" in other.asked, "it was asked")
        rollout_id = promote(ports, accept(ports, make_adapter(tmp_path / "made", model)))
        await eventually(lambda: rollout_state(ports, rollout_id) == "done", "the other one took the version")
        assert not is_ready(ports, name(other))
    assert (rows(ports)[name(other)].base_revision, other.adapters) == ("", {})
    ports.close()


async def test_who_leaves_the_list_is_forgotten_and_who_comes_is_taken_in(
    tmp_path: Path, model: Path, own: ControlEngine, other: ControlEngine
) -> None:
    given = {"THUMBWHEEL_SERVING__REPLICAS": "0", **with_list(tmp_path, own)}
    ports = make_home(tmp_path, model, own, other, **given)
    async with controlling(ports):
        await eventually(lambda: is_ready(ports, name(own)), "the first was taken at its word")
        write_list(tmp_path, other)
        await eventually(lambda: is_ready(ports, name(other)), "the second computes what the first did")
        await eventually(lambda: rows(ports).keys() == {name(other)}, "the first is gone")
    table = routing(ports)
    assert table is not None
    assert [r.name for r in table.replicas] == [name(other)]
    ports.close()


async def test_one_that_comes_back_with_other_weights_under_the_right_name_gets_no_traffic(
    tmp_path: Path, model: Path, own: ControlEngine, other: ControlEngine
) -> None:
    """At the same address, with everything loaded that should be, while no controller looked."""
    ports = make_home(tmp_path, model, own, other)
    register_replica(ports, own.address, base_revision(model))
    register_replica(ports, other.address, base_revision(model), name="replica-1")
    async with controlling(ports):
        version = accept(ports, make_adapter(tmp_path / "made", model))
        rollout_id = promote(ports, version)
        await eventually(lambda: rollout_state(ports, rollout_id) == "done", "both took the version")
    other.restart()
    other.adapters[version], other.off = "/tampered", 0.5
    asked = len(other.requests)
    async with controlling(ports):
        await eventually(lambda: not is_ready(ports, "replica-1"), "it went out of service")
        await eventually(lambda: len(other.requests) > asked, "it was asked what it computes")
        assert is_ready(ports, "replica-0")
        assert version not in rows(ports)["replica-1"].versions
        other.off = 0.0
        await eventually(lambda: is_ready(ports, "replica-1"), "it came back once it computed what it should")
    ports.close()


async def test_weights_that_change_under_a_running_engine_are_found_by_the_next_check(
    tmp_path: Path, model: Path, own: ControlEngine, other: ControlEngine
) -> None:
    ports = make_home(tmp_path, model, own, other, THUMBWHEEL_SERVING__RECHECK_S="0.05")
    register_replica(ports, own.address, base_revision(model))
    register_replica(ports, other.address, base_revision(model), name="replica-1")
    async with controlling(ports):
        version = accept(ports, make_adapter(tmp_path / "made", model))
        rollout_id = promote(ports, version)
        await eventually(lambda: rollout_state(ports, rollout_id) == "done", "both took the version")
        other.off = 0.5
        await eventually(lambda: not is_ready(ports, "replica-1"), "it went out of service")
        assert is_ready(ports, "replica-0")
    ports.close()


async def test_a_version_that_one_of_two_refuses_is_not_flipped_to_and_may_be_promoted_again(
    tmp_path: Path, model: Path, own: ControlEngine, other: ControlEngine
) -> None:
    ports = make_home(tmp_path, model, own, other)
    register_replica(ports, own.address, base_revision(model))
    register_replica(ports, other.address, base_revision(model), name="replica-1")
    version = accept(ports, make_adapter(tmp_path / "made", model))
    other.refuses[version] = "out of memory"
    async with controlling(ports):
        await eventually(lambda: version in rows(ports)["replica-0"].versions, "the first took it beforehand")
        rollout_id = promote(ports, version)
        await eventually(lambda: rollout_state(ports, rollout_id) == "failed", "the rollout failed")
        assert champion(ports) == "base"
        assert adapter_state(ports, version) == "accepted", "it was the replica's fault"
        with ports.database.transaction() as session:
            fleet.set_drain(session, "replica-1", drain=True, actor="test", reason="broken", tenant="default")
        await eventually(lambda: rows(ports)["replica-1"].state is ReplicaState.DRAINING, "it is out of the way")
        other.refuses.clear()
        await eventually(lambda: version in rows(ports)["replica-0"].versions, "the first has it")
    ports.close()
