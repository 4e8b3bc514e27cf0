"""Which engines sample for a cycle, and under which names its adapters are known to them."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.contracts.routing import Replica, ReplicaState
from infra.ports import Ports
from infra.registry import fleet
from infra.settings import TrainerSettings
from tests.support.home import make_ports
from trainer.data import Prompt
from trainer.regression import Case
from trainer.sampling import Sampled
from trainer.stages.contest import Side, ask
from trainer.stages.engines import ready_replicas
from trainer.world import ALONE


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = make_ports(tmp_path / "home")
    yield made
    made.close()


def make_replica(**overrides: Any) -> Replica:
    fields = {"name": "replica-0", "address": "http://127.0.0.1:1", "base_revision": "0123", "served_model": "base"}
    return Replica.model_validate({**fields, "state": ReplicaState.READY, **overrides})


def report(ports: Ports, **overrides: Any) -> None:
    with ports.database.transaction() as session:
        fleet.report_replica(session, make_replica(**overrides))


def test_where_no_engine_was_ever_started_nobody_waits(ports: Ports) -> None:
    assert ready_replicas(ports.database, patience_s=60) == []


def test_only_ready_engines_sample(ports: Ports) -> None:
    report(ports)
    report(ports, name="replica-1", state=ReplicaState.DRAINING)
    assert [replica.name for replica in ready_replicas(ports.database)] == ["replica-0"]


def test_an_engine_that_is_coming_back_is_waited_for(ports: Ports) -> None:
    report(ports, state=ReplicaState.DOWN)
    timer = threading.Timer(0.6, lambda: report(ports))
    timer.start()
    assert len(ready_replicas(ports.database, patience_s=20)) == 1
    timer.join()


def test_an_engine_that_does_not_come_back_is_given_up_on(ports: Ports) -> None:
    report(ports, state=ReplicaState.DOWN)
    assert ready_replicas(ports.database, patience_s=0) == []


class ListeningSampler:
    """Notes what it is asked for, and under which name."""

    apart = True

    def __init__(self) -> None:
        self.heard: list[tuple[str, str | None]] = []

    def sample(self, prompts: Sequence[Prompt], *, adapter: str | None, **decoding: Any) -> list[list[Sampled]]:
        self.heard.append((f"T={decoding['temperature']} n={decoding['n']}", adapter))
        return [[Sampled([1], [2], [-0.1], "stop", "hi")] * decoding["n"] for _ in prompts]

    def publish(self, name: str, directory: Path) -> None:
        self.heard.append(("publish", name))

    def retire(self, name: str) -> None:
        self.heard.append(("retire", name))


def heard(side: Side, replicas: Sequence[Replica], **settings: Any) -> list[tuple[str, str | None]]:
    """What the sampler hears while that side answers a prompt and a check."""
    sampler = ListeningSampler()
    material: Any = SimpleNamespace(
        settings=TrainerSettings(**settings), sampler=sampler, replicas=replicas, samples_name="train-7-2", world=ALONE
    )
    question: list[dict[str, Any]] = [{"role": "user", "content": "?"}]
    ask(material, side, [Prompt(question)], [Case(name="c", messages=question)])
    return sampler.heard


def test_the_base_needs_no_name() -> None:
    assert heard(Side("champion", "base", None), []) == [("T=1.0 n=2", None), ("T=0.0 n=1", None)]


def test_a_candidate_gets_a_reserved_name_for_as_long_as_it_answers() -> None:
    name = "train-7-2_candidate"
    found = heard(Side("candidate", "assistant-7-0badcafe", Path("files")), [make_replica()])
    assert found == [("publish", name), ("T=1.0 n=2", name), ("T=0.0 n=1", name), ("retire", name)]


def test_a_champion_that_serves_already_is_not_loaded_twice() -> None:
    side = Side("champion", "assistant-6-0badcafe", Path("files"))
    assert {name for _, name in heard(side, [make_replica(versions=["assistant-6-0badcafe"])])} == {
        "assistant-6-0badcafe"
    }


def test_a_champion_that_is_missing_on_one_engine_is_loaded_on_all() -> None:
    replicas = [make_replica(versions=["assistant-6-0badcafe"]), make_replica(name="replica-1")]
    assert heard(Side("champion", "assistant-6-0badcafe", Path("files")), replicas)[0] == (
        "publish",
        "train-7-2_champion",
    )


def test_several_answers_to_a_check_are_sampled_not_greedy() -> None:
    found = heard(Side("champion", "base", None), [], regression_samples=4, evaluate_samples=3)
    assert [what for what, _ in found] == ["T=1.0 n=3", "T=1.0 n=4"]
