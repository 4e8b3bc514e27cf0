"""Another base under streaming load, on real engines: beside the old one, through its step, the old one away, and the
settings moved over. Nobody notices, but by the version that answers name."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from infra.base_model import base_revision
from infra.contracts.rollouts import Step
from infra.contracts.routing import ReplicaState, base_version
from infra.ports import Ports
from infra.registry import fleet, wishes
from infra.registry.wishes import Wish
from infra.settings import load_settings, variable
from tests.bench.swap_load import Load, streaming
from tests.bench.swap_versions import Answers, make_versions, plain_answers
from tests.serving.test_foreign_engines import Foreigner
from tests.support.controllers import champion, controlling, eventually, promote, replica, rollout_state, routing
from tests.support.stack import Stack, make_stack, running_gateway
from tests.support.tiny_model import make_tiny_model
from tests.support.versions import publish_made
from trainer.model import load_base

pytestmark = [pytest.mark.engine, pytest.mark.e2e, pytest.mark.timeout(900)]

STEPS = (Step(share=0.5, min_s=3600),)  # a person takes it further
USERS = 4
WHOLE = 5  # answers of each version, before the test goes on
WAIT_S = 120


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answers]:
    """A base whose every token is clearly the best one, with what it answers."""
    for seed in count(1):
        directory = make_tiny_model(tmp_path_factory.mktemp("new"), seed=seed)
        if answers := plain_answers(load_base(directory)):
            return directory, answers
    raise AssertionError


@pytest.fixture
def stack(tmp_path: Path, old: Path) -> Iterator[Stack]:
    stack = make_stack(tmp_path / "home", serving=settings_of(tmp_path, old))
    yield stack
    stack.ports.close()


def settings_of(directory: Path, model: Path, **more: str) -> dict[str, Any]:
    """The serving room's."""
    return {
        "model": model, "replicas": 0, "replica_file": directory / "replicas", "discovery_s": 0.2, "kv_cache_gib": 0.1,
        "rollout_steps": json.dumps([step.model_dump(mode="json") for step in STEPS]), **more,
    }  # fmt: skip


async def test_an_alias_moves_to_the_next_base_and_its_old_engine_goes_without_a_failed_answer(
    stack: Stack, old: Path, new: tuple[Path, Answers], tmp_path: Path
) -> None:
    """As docs/replicas.md tells an operator to: three settings of the controller, one after the other."""
    ports, following = stack.ports, base_version(base_revision(new[0]))
    [made] = make_versions(load_base(old), tmp_path / "made", 1)
    version = publish_made(ports, made.directory, made.manifest)
    old_engine, new_engine = (Foreigner(ports, model, tmp_path / f"{model.name}.log") for model in (old, new[0]))
    write_list(tmp_path, old_engine)
    with new_engine.running(), ExitStack() as old_runs:
        old_runs.enter_context(old_engine.running())
        async with running_gateway(stack) as url:
            load = Load(url, stack.client_key, {version: made.answers, following: new[1]})
            async with controlling(ports):
                await becomes(old_engine, ReplicaState.READY)
                await ends(ports, promote(ports, version))
            async with streaming(load, USERS):
                async with controlled(stack, settings_of(tmp_path, old, next_model=str(new[0]))):
                    write_list(tmp_path, old_engine, new_engine)
                    await becomes(new_engine, ReplicaState.READY)
                    rollout_id = begin(ports, following)
                    await answered(load, version, following)
                    verified = replica(ports, new_engine.name).versions
                    assert (verified, version in new_engine.loaded()) == ([following], False)
                    assert finish(ports, following) == rollout_id
                    await ends(ports, rollout_id)
                    drain(ports, old_engine)
                    await becomes(old_engine, ReplicaState.DRAINING)
                    await asyncio.to_thread(old_runs.close)
                    write_list(tmp_path, new_engine)
                    await becomes(old_engine, None)
                    await answered(load, following)
                before = routing(ports)
                async with controlled(stack, settings_of(tmp_path, new[0])):
                    await eventually(lambda: replica(ports, new_engine.name).versions == ["base"], "it is current")
                    await answered(load, following)
    after = routing(ports)
    assert before is not None
    assert after is not None
    assert (champion(ports), after.aliases) == (following, before.aliases)
    assert (load.failed, load.mixed, load.faults) == (0, 0, [])


@asynccontextmanager
async def controlled(stack: Stack, serving: dict[str, Any]) -> AsyncIterator[None]:
    """By a controller with these settings."""
    environ = {variable("serving", name): str(value) for name, value in serving.items()}
    ports = Ports(load_settings(stack.home, environ))
    async with controlling(ports):
        yield
    ports.close()


def write_list(directory: Path, *engines: Foreigner) -> None:
    aside = directory / "replicas.new"
    aside.write_text("".join(f"{engine.name}\n" for engine in engines))
    aside.replace(directory / "replicas")


async def becomes(engine: Foreigner, state: ReplicaState | None) -> None:
    await eventually(lambda: engine.state() is state, f"{engine.model} is {state}", timeout_s=WAIT_S)


async def ends(ports: Ports, rollout_id: str) -> None:
    await eventually(lambda: rollout_state(ports, rollout_id) == "done", "the rollout is through", timeout_s=WAIT_S)


async def answered(load: Load, *versions: str) -> None:
    """By each of them, some more often than now."""
    wanted = {version: load.served[version] + WHOLE for version in versions}
    await eventually(
        lambda: load.faults or all(load.served[v] >= least for v, least in wanted.items()), "all answer",
        timeout_s=WAIT_S,
    )  # fmt: skip
    assert load.faults == []


def begin(ports: Ports, version: str) -> str:
    with ports.database.transaction() as session:
        wish = Wish(version, champion(ports), "test", "a newer base", "default", alias="assistant")
        return wishes.start(session, wish, STEPS).rollout_id


def finish(ports: Ports, version: str) -> str:
    with ports.database.transaction() as session:
        wish = Wish(version, champion(ports), "test", "enough seen", "default", alias="assistant")
        return wishes.promote(session, wish).rollout_id


def drain(ports: Ports, engine: Foreigner) -> None:
    with ports.database.transaction() as session:
        fleet.set_drain(session, engine.name, drain=True, actor="test", reason="its base is old", tenant="default")
