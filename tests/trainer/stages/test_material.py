"""What a cycle's stages start from, and what they say where it is not there."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.base_model import base_revision
from infra.clock import now
from infra.contracts.routing import ReplicaState
from infra.ports import Ports
from infra.registry import adapters, fleet, leases
from tests.support.cycles import hold, make_cycle
from tests.support.datasets import make_snapshotted_cycle, make_tables
from tests.support.home import make_ports
from tests.support.routing import make_replica, make_route, make_table
from tests.support.tiny_training import tiny_environment
from trainer.cycle import Holding
from trainer.engine_sampler import EngineSampler
from trainer.errors import StageFailed
from trainer.stages.checking import check_data
from trainer.stages.material import Material
from trainer.transformers_sampler import TransformersSampler
from trainer.workdir import work_dir

Open = Callable[..., Ports]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Makes ports with a tiny model, and closes them."""
    made: list[Ports] = []

    def open_ports(**settings: Any) -> Ports:
        made.append(make_ports(tmp_path / "home", **tiny_environment(tmp_path, **settings)))
        return made[-1]

    yield open_ports
    for ports in made:
        ports.close()


def material_of(ports: Ports, cycle_id: str) -> Material:
    lease = hold(ports, cycle_id, "trainer")
    return Material(ports, Holding(ports.database, cycle_id, lease, work_dir(ports.home, cycle_id)))


def report(ports: Ports, **overrides: Any) -> None:
    revision = base_revision(Path(ports.settings.serving.model))
    with ports.database.transaction() as session:
        fleet.report_replica(session, make_replica(**{"base_revision": revision, **overrides}))


def test_a_cycle_s_own_settings_come_first(opened: Open) -> None:
    ports = opened(policy_steps=2)
    assert material_of(ports, make_cycle(ports, policy_steps=7)).settings.policy_steps == 7


def test_a_cycle_without_a_dataset_cannot_go_on(opened: Open) -> None:
    ports = opened()
    with pytest.raises(StageFailed, match="came without a dataset"):
        _ = material_of(ports, make_cycle(ports)).dataset


def test_an_erased_dataset_is_not_trained_on(opened: Open) -> None:
    ports = opened()
    cycle_id = make_snapshotted_cycle(ports)
    material = material_of(ports, cycle_id)
    with ports.database.transaction() as session:
        adapters.get_dataset(session, "default", str(material.row.dataset_id)).erased_at = now()
    with pytest.raises(StageFailed, match="was erased"):
        _ = material.dataset


def test_without_a_model_there_is_nothing_to_train(tmp_path: Path) -> None:
    ports = make_ports(tmp_path / "home")
    with pytest.raises(StageFailed, match=r"serving\.model is not set"):
        _ = material_of(ports, make_cycle(ports)).base
    ports.close()


def test_where_no_engine_is_up_the_model_in_memory_samples(opened: Open) -> None:
    ports = opened(sampler="engine")
    assert isinstance(material_of(ports, make_cycle(ports)).sampler, TransformersSampler)


def test_a_ready_engine_samples(opened: Open) -> None:
    ports = opened(sampler="engine")
    report(ports)
    material = material_of(ports, make_cycle(ports))
    assert isinstance(material.sampler, EngineSampler)
    material.close()


def test_a_setting_keeps_samples_in_memory_though_an_engine_is_up(opened: Open) -> None:
    ports = opened(sampler="transformers")
    report(ports)
    assert isinstance(material_of(ports, make_cycle(ports)).sampler, TransformersSampler)


def test_an_engine_of_another_base_is_never_asked(opened: Open) -> None:
    ports = opened(sampler="engine")
    report(ports, name="replica-1", base_revision="0123456789ab")
    cycle_id = make_cycle(ports)
    with pytest.raises(StageFailed, match="replica-1 serves another base"):
        _ = material_of(ports, cycle_id).sampler
    report(ports)
    assert [replica.name for replica in material_of(ports, cycle_id).replicas] == ["replica-0"]


def test_an_engine_that_starts_is_not_taken_for_one_that_is_ready(opened: Open) -> None:
    ports = opened(sampler="engine")
    report(ports)
    report(ports, name="replica-1", state=ReplicaState.STARTING)
    assert [replica.name for replica in material_of(ports, make_cycle(ports)).replicas] == ["replica-0"]


def test_the_champion_is_what_the_routing_table_says_and_else_the_base(opened: Open) -> None:
    ports = opened()
    material = material_of(ports, make_cycle(ports))
    assert material.champion() == "base"
    with ports.database.transaction() as session:
        lease = leases.acquire(session, "controller", "serving", 60)
        assert lease is not None
        revision = base_revision(Path(ports.settings.serving.model))
        route = make_route("assistant-1-0badcafe", base_revision=revision)
        fleet.publish_routing(session, lease, make_table(aliases={"assistant": route}))
    assert material.champion() == "assistant-1-0badcafe"


def test_a_champion_on_another_base_is_nothing_to_train_from(opened: Open) -> None:
    ports = opened()
    with ports.database.transaction() as session:
        lease = leases.acquire(session, "controller", "serving", 60)
        assert lease is not None
        fleet.publish_routing(session, lease, make_table(champion="assistant-1-0badcafe"))
    assert material_of(ports, make_cycle(ports)).champion() == "base"


def test_every_attempt_at_a_cycle_has_sample_names_of_its_own(opened: Open) -> None:
    ports = opened()
    cycle_id = make_cycle(ports)
    first = material_of(ports, cycle_id)
    with ports.database.transaction() as session:
        leases.release(session, first.holding.lease)
    second = material_of(ports, cycle_id)
    assert first.samples_name.startswith(f"train-{cycle_id}-")
    assert first.samples_name != second.samples_name


def test_too_few_pairs_are_told_with_what_was_left_out_and_why(opened: Open) -> None:
    ports = opened(min_pairs=50)
    cycle_id = make_snapshotted_cycle(ports, make_tables(pairs=12))
    with pytest.raises(StageFailed, match=r"8 preference pairs .*min_pairs asks for 50 \(left out: nothing\)"):
        check_data(material_of(ports, cycle_id))


@pytest.mark.parametrize("engine_s", [1024, 40, 0])
def test_prompts_that_leave_no_room_for_an_answer_are_left_out(opened: Open, engine_s: int) -> None:
    """Of trainer.max_length, and of what the engine takes; 0 stands for an engine that didn't say."""
    ports = opened(sampler="engine", max_length=60, policy_max_new_tokens=12)
    report(ports, max_model_len=engine_s)
    tables = make_tables(pairs=24)
    tables["prompts"] = {"train": [make_long_prompt(words) for words in (1, 35, 90)]}
    material = material_of(ports, make_snapshotted_cycle(ports, tables))
    kept = [prompt.prompt_id for prompt in material.prompts("train")]
    assert kept == (["1 words"] if engine_s == 40 else ["1 words", "35 words"])


def make_long_prompt(words: int) -> dict[str, Any]:
    return {"prompt": [{"role": "user", "content": "cosine " * words}], "prompt_id": f"{words} words"}
