"""Engines that are not what they seem: found ones with another base, restarted ones with other weights."""

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from infra.base_model import base_revision
from infra.contracts.routing import Replica, ReplicaState, base_version
from infra.ports import Ports
from infra.registry import fleet, leases, rollouts
from serving.adapters import read_base
from serving.checkup import Checkup
from serving.discovery import found_replica
from serving.engine import Engine
from serving.errors import EngineUnreachable
from serving.evidence import Shelf
from serving.fingerprint import Fingerprints
from serving.metrics import Metrics
from serving.preparation import Preparation
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


@pytest.fixture(scope="module")
def following(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that is to follow."""
    return make_tiny_model(tmp_path_factory.mktemp("following"), seed=1)


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


async def test_one_of_the_next_base_is_known_by_what_it_computes_and_each_has_the_adapters_of_its_own(
    tmp_path: Path, model: Path, following: Path, own: ControlEngine, other: ControlEngine
) -> None:
    other.base_off = 0.5
    given = {**with_list(tmp_path, other), "THUMBWHEEL_SERVING__NEXT_MODEL": str(following)}
    ports = make_home(tmp_path, model, own, other, **given)
    register_replica(ports, own.address, base_revision(model))
    async with controlling(ports):
        await eventually(lambda: is_ready(ports, "replica-0") and is_ready(ports, name(other)), "both are in")
        old = accept(ports, make_adapter(tmp_path / "old", model))
        new = accept(ports, make_adapter(tmp_path / "new", following, seed=1))
        first = promote(ports, old)
        await eventually(lambda: rollout_state(ports, first) == "done", "the old one took its version")
        second = promote(ports, new)
        await eventually(lambda: rollout_state(ports, second) == "done", "the new one took its version")
    assert (list(own.adapters), list(other.adapters)) == ([old], [new])
    assert rows(ports)[name(other)].versions == sorted([base_version(base_revision(following)), new])
    ports.close()


async def test_of_two_bases_of_which_neither_is_known_none_is_taken_at_its_word(
    tmp_path: Path, model: Path, following: Path, other: ControlEngine
) -> None:
    ports = make_home(tmp_path, model, other)
    with ports.database.transaction() as session:
        lease = leases.acquire(session, "controller", "test", 60)
    assert lease is not None
    async with aiohttp.ClientSession() as session:
        checkup = make_checkup(ports, session, [model, following])
        with pytest.raises(EngineUnreachable, match=r"set serving\.next_model later"):
            await checkup.identify(lease, found_replica(other.address))
    assert [Fingerprints(ports.artifacts, base_revision(path)).known() for path in (model, following)] == [None, None]
    ports.close()


def make_checkup(ports: Ports, session: aiohttp.ClientSession, models: list[Path]) -> Checkup:
    def engine_at(address: str) -> Engine:
        return Engine(session, address, ports.engine_key)

    async def look(_address: str) -> None:
        """Nobody needs to know."""

    bases, metrics = [read_base(path) for path in models], Metrics(CollectorRegistry())
    shelf = Shelf(ports.home, ports.artifacts, bases, 16)
    preparation = Preparation(ports.database, shelf, ports.settings.serving, engine_at, look, metrics)
    known = [Fingerprints(ports.artifacts, base.revision) for base in bases]
    return Checkup(ports.database, known, preparation, engine_at, 0.01, metrics)


async def test_settings_that_move_over_to_the_next_base_change_nothing_for_its_alias(
    tmp_path: Path, model: Path, following: Path, own: ControlEngine, other: ControlEngine
) -> None:
    other.base_off = 0.5
    listed = with_list(tmp_path, own, other)
    given = {**listed, "THUMBWHEEL_SERVING__REPLICAS": "0"}
    ports = make_home(tmp_path, model, own, other, **given)
    write_list(tmp_path, own)
    async with controlling(ports):
        await eventually(lambda: is_ready(ports, name(own)), "the old one was taken at its word")
    ports.close()
    ports = make_home(tmp_path, model, own, other, THUMBWHEEL_SERVING__NEXT_MODEL=str(following), **given)
    write_list(tmp_path, own, other)
    async with controlling(ports):
        await eventually(lambda: is_ready(ports, name(other)), "the new one too, for the other base")
        version = accept(ports, make_adapter(tmp_path / "new", following))
        rollout_id = promote(ports, version)
        await eventually(lambda: rollout_state(ports, rollout_id) == "done", "the alias is on the next base")
    before = routing(ports)
    ports.close()
    moved = make_home(tmp_path, following, own, other, **given)
    async with controlling(moved):
        await eventually(lambda: set(rows(moved)[name(other)].versions) == {"base", version}, "it is current")
        await eventually(lambda: not is_ready(moved, name(own)), "the old one is out")
        late = promote(moved, accept(moved, make_adapter(tmp_path / "late", model, seed=1)))
        await eventually(lambda: rollout_state(moved, late) == "failed", "the old base's adapters stay away")
    after = routing(moved)
    assert before is not None
    assert after is not None
    assert (after.aliases, adapter_state(moved, version)) == (before.aliases, "champion")
    with moved.database.reading() as session:
        error = rollouts.get(session, late).error or ""
    moved.close()
    assert f"trained on base {base_revision(model)}, assistant is on {base_revision(following)}" in error
