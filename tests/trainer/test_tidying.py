"""Working directories hold a copy of the dataset: they go with their cycle's end, or with its dataset's erasure."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.ports import Ports
from infra.registry import adapters, cycles, leases
from infra.registry.cycles import CycleState
from tests.support.cycles import cycle_row, make_cycle
from tests.support.fake_training import VARIABLE, fake_command
from tests.support.home import make_ports
from tests.support.manifests import make_adapter_manifest, make_dataset_manifest
from tests.support.reports import make_cost, make_findings, make_gate_report
from trainer.launch import Launcher
from trainer.report import read_report, write_report
from trainer.sweep import sweep
from trainer.tidying import tidy
from trainer.workdir import WorkDir, work_dir

DATASET = "dataset-1"


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = make_ports(tmp_path / "home")
    yield made
    made.close()


def worked(ports: Ports, state: CycleState, alias: str = "assistant") -> str:
    """A cycle with a dataset and a working directory, in this state."""
    cycle_id = make_cycle(ports, alias=alias)
    with ports.database.transaction() as session:
        adapters.register_dataset(session, make_dataset_manifest(dataset_id=DATASET), f"datasets/default/{DATASET}")
        row = cycles.get(session, cycle_id)
        row.dataset_id, row.state = DATASET, state
    work_dir(ports.home, cycle_id).at("dataset").mkdir(parents=True)
    return cycle_id


def erase(ports: Ports) -> None:
    with ports.database.transaction() as session:
        adapters.mark_erased(session, "default", DATASET)


@pytest.mark.parametrize("state", ["accepted", "blocked", "awaiting_person", "failed", "cancelled"])
def test_the_directory_of_a_cycle_that_has_ended_is_removed(ports: Ports, state: str) -> None:
    cycle_id = worked(ports, CycleState(state))
    assert sweep(ports, lambda _: None) == []
    assert not work_dir(ports.home, cycle_id).root.exists()


def published(ports: Ports) -> str:
    """A cycle that its gates have blocked, with a report and what its bill is made of."""
    cycle_id = worked(ports, CycleState.BLOCKED)
    manifest = make_adapter_manifest(cycle_id=cycle_id)
    with ports.database.transaction() as session:
        adapters.register(session, manifest, f"adapters/{manifest.version}")
        adapters.store_gates(session, make_gate_report(version=manifest.version))
        row = cycles.get(session, cycle_id)
        row.version, row.reason, row.seconds = manifest.version, "kl_anchor fail", {"publishing": 2.0, "gating": 1.5}
    write_report(ports.artifacts, make_findings(manifest=manifest))
    work = work_dir(ports.home, cycle_id)
    work.finish("publishing", work.begin("publishing", 1), make_cost())
    return cycle_id


def test_the_report_learns_how_the_cycle_ended_before_its_directory_goes(ports: Ports) -> None:
    cycle_id = published(ports)
    tidy(ports)
    found = read_report(ports.artifacts, cycle_id)
    assert (found["state"], found["reason"], found["gates"]["verdict"]) == ("blocked", "kl_anchor fail", "fail")
    assert found["cost"]["fixed_s"]["validate"] == 1.5
    assert found["cost"]["stages"]["publishing"]["load"] == 2.0
    assert not work_dir(ports.home, cycle_id).root.exists()


def test_of_two_sweeps_at_once_the_later_one_leaves_the_bill_as_it_is(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycle_id, read = published(ports), WorkDir.results

    def after_another_sweep(work: WorkDir) -> dict[str, dict[str, Any]]:
        monkeypatch.setattr(WorkDir, "results", read)
        tidy(ports)
        return read(work)

    monkeypatch.setattr(WorkDir, "results", after_another_sweep)
    tidy(ports)
    assert read_report(ports.artifacts, cycle_id)["cost"]["stages"]["publishing"]["load"] == 2.0


def test_what_a_killed_sweep_had_begun_to_remove_goes(ports: Ports) -> None:
    left = ports.home / "cycles" / ".7.0f.gone" / "dataset"
    left.mkdir(parents=True)
    tidy(ports)
    assert not left.parent.exists()


@pytest.mark.parametrize("state", ["sft", "policy", "publishing", "gating"])
def test_the_directory_of_a_cycle_that_goes_on_stays(ports: Ports, state: str) -> None:
    cycle_id = worked(ports, CycleState(state))
    assert tidy(ports) == []
    assert work_dir(ports.home, cycle_id).root.exists()


def test_once_the_dataset_is_erased_a_cycle_in_its_gates_keeps_no_copy(ports: Ports) -> None:
    cycle_id = worked(ports, CycleState.GATING)
    erase(ports)
    assert tidy(ports) == [cycle_id]
    assert not work_dir(ports.home, cycle_id).root.exists()


def test_a_directory_of_no_cycle_is_left_alone(ports: Ports) -> None:
    work_dir(ports.home, "rewards").root.mkdir(parents=True)
    assert tidy(ports) == []


def test_a_cycle_whose_dataset_was_erased_starts_no_child_and_fails_with_that_reason(ports: Ports) -> None:
    cycle_id = worked(ports, CycleState.SFT)
    erase(ports)
    assert Launcher(ports, threading.Event(), fake_command).run(cycle_id) == CycleState.FAILED
    assert cycle_row(ports, cycle_id).reason == f"dataset {DATASET} was erased"


def test_a_running_cycle_whose_dataset_is_erased_fails_with_that_reason(
    ports: Ports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, '{"hang": "policy"}')
    cycle_id, outcome = worked(ports, CycleState.SFT), list[str]()
    thread = threading.Thread(
        target=lambda: outcome.append(Launcher(ports, threading.Event(), fake_command).run(cycle_id))
    )
    thread.start()
    deadline = time.monotonic() + 30
    while cycle_row(ports, cycle_id).state != CycleState.POLICY:
        assert time.monotonic() < deadline, "it never came to hang"
        time.sleep(0.05)
    erase(ports)
    thread.join(20)
    assert outcome == [CycleState.FAILED]
    assert cycle_row(ports, cycle_id).reason == f"dataset {DATASET} was erased"
    with ports.database.reading() as session:
        assert not leases.is_live(session, leases.cycle_lease(cycle_id))
    assert tidy(ports) == [cycle_id]
