"""A cycle that several processes train together: launched, followed, cancelled, gone on with after a kill."""

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file
from torch import Tensor

from infra.base_model import base_revision
from infra.contracts.manifests import Evidence
from infra.ports import Ports
from infra.registry import cycles, fleet
from infra.registry.cycles import CycleState
from infra.registry.leases import Lease
from infra.settings import HOME_VARIABLE, TrainerSettings
from tests.support.cycles import cycle_row, make_cycle
from tests.support.datasets import make_snapshotted_cycle, make_tables
from tests.support.fake_training import VARIABLE, fake_command
from tests.support.home import make_ports
from tests.support.launching import in_thread, plan, started, wait_until
from tests.support.routing import make_replica
from tests.support.sampling_engine import SamplingEngine, running_engine
from tests.support.tiny_cycles import evidence_of, published, result_of, train
from tests.support.tiny_training import tiny_environment
from trainer.launch import Launcher, child_command, last_line
from trainer.metrics_file import read_metrics
from trainer.report_costs import COST
from trainer.run import line_up_to
from trainer.workdir import MARKER, work_dir

TOGETHER = {"THUMBWHEEL_TRAINER__PROCESSES": "2"}
TORCHRUN = f"{shlex.quote(sys.executable)} -m torch.distributed.run --standalone --nproc_per_node 2"
CHECKS = 2  # of the tiny settings' regression file
WAIT_S = 60  # torchrun and its processes load torch first


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = make_ports(tmp_path / "home", **TOGETHER)
    yield made
    made.close()


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ports]:
    """With the real stages, and settings that the children find too."""
    environ = {**tiny_environment(tmp_path, sft_min_rows=8, method="dpo", checkpoint_s=0), **TOGETHER}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    made = make_ports(tmp_path / "home", **environ)
    yield made
    made.close()


def launcher(ports: Ports) -> Launcher:
    return Launcher(ports, threading.Event(), fake_command)


def processes_of(ports: Ports, cycle_id: str) -> list[psutil.Process]:
    """torchrun and those that it started, whoever is their parent now. Other homes have cycles of the same name."""
    return [found for found in psutil.process_iter(["cmdline", "environ"]) if names(found, ports, cycle_id)]


def names(process: psutil.Process, ports: Ports, cycle_id: str) -> bool:
    words, environ = process.info["cmdline"] or [], process.info["environ"] or {}
    is_training = "--cycle" in words and words[words.index("--cycle") + 1] == cycle_id
    return is_training and environ.get(HOME_VARIABLE) == str(ports.home)


def run_by(ports: Ports, cycle_id: str, rank: str) -> psutil.Process | None:
    """The process of this rank, once it is there."""
    for process in processes_of(ports, cycle_id):
        try:
            if process.environ().get("RANK") == rank:
                return process
        except psutil.NoSuchProcess:
            continue
    return None


def cancel(ports: Ports, cycle_id: str) -> None:
    with ports.database.transaction() as session:
        cycles.request_cancel(session, cycle_id, tenant="default", actor="operator")


def command(**settings: object) -> list[str]:
    return child_command("7", Lease("cycle-7", "holder", 1), TrainerSettings.model_validate(settings))


def test_one_process_is_started_without_anything_in_between() -> None:
    assert command()[:3] == [sys.executable, "-m", "trainer.run"]


def test_several_are_started_by_torchrun_or_by_what_is_set() -> None:
    assert command(processes=4)[1:6] == [
        "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=4", "-m"
    ]  # fmt: skip
    started = command(launch_with="accelerate launch --config_file 'my cluster.yaml'")
    assert started[:6] == ["accelerate", "launch", "--config_file", "my cluster.yaml", "-m", "trainer.run"]
    assert started[-1] == "--elsewhere"


def test_a_launcher_that_is_not_there_fails_the_cycle_with_its_name(tmp_path: Path) -> None:
    ports = make_ports(tmp_path / "home", THUMBWHEEL_TRAINER__LAUNCH_WITH="no-such-launcher --nodes 2")
    cycle_id = make_cycle(ports)
    assert Launcher(ports, threading.Event()).run(cycle_id) == CycleState.FAILED
    assert cycle_row(ports, cycle_id).reason == "trainer.launch_with: there is no no-such-launcher here"
    ports.close()


def test_a_process_knows_who_stands_between_it_and_its_worker() -> None:
    above = [process.pid for process in psutil.Process().parents()]
    assert line_up_to(above[1], elsewhere=False) == above[:2]
    assert line_up_to(os.getpid(), elsewhere=False) == []
    assert line_up_to(os.getpid(), elsewhere=True) == above[:1]


def test_the_rule_under_torchrun_s_report_is_no_reason(tmp_path: Path) -> None:
    log = tmp_path / "cycle.log"
    log.write_text("Root Cause:\n  traceback : Signal 9 (SIGKILL) received by PID 7\n=====\n\n")
    assert last_line(log) == "traceback : Signal 9 (SIGKILL) received by PID 7"


@pytest.mark.parametrize(
    ("stage_that", "outcome", "reason"),
    [("fail", CycleState.FAILED, "only 3 pairs, 50 are needed"), ("away", "crashed", "the engine is away")],
)
def test_what_the_leader_says_at_its_end_reaches_the_worker_past_torchrun(
    ports: Ports, monkeypatch: pytest.MonkeyPatch, stage_that: str, outcome: str, reason: str
) -> None:
    plan(monkeypatch, **{stage_that: "sft"})
    cycle_id = make_cycle(ports)
    assert launcher(ports).run(cycle_id) == outcome
    crashes = work_dir(ports.home, cycle_id).root / "crashes.txt"
    assert (crashes.read_text().strip() if outcome == "crashed" else cycle_row(ports, cycle_id).reason) == reason
    assert processes_of(ports, cycle_id) == []


@pytest.mark.parametrize("launch_with", ["", TORCHRUN])
def test_a_cancel_ends_all_processes_whatever_they_are_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launch_with: str
) -> None:
    """The leader neither reports nor takes a signal that can be refused."""
    ports = make_ports(tmp_path / "home", **TOGETHER, THUMBWHEEL_TRAINER__LAUNCH_WITH=launch_with)
    plan(monkeypatch, stuck="sft")
    cycle_id = make_cycle(ports)
    thread, outcome = in_thread(lambda: launcher(ports).run(cycle_id))
    wait_until(lambda: started(ports, cycle_id) and run_by(ports, cycle_id, "1"), WAIT_S)
    assert len(processes_of(ports, cycle_id)) == 3
    cancel(ports, cycle_id)
    wait_until(lambda: not processes_of(ports, cycle_id), timeout_s=5)
    thread.join()
    assert outcome == [CycleState.CANCELLED]
    ports.close()


def test_all_processes_die_with_the_worker_that_is_killed(ports: Ports) -> None:
    cycle_id = make_cycle(ports)
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(ports.home), cycle_id],
        env={**os.environ, **TOGETHER, VARIABLE: '{"hang": "sft"}'},
    )
    wait_until(lambda: started(ports, cycle_id) and run_by(ports, cycle_id, "1"), WAIT_S)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    wait_until(lambda: not processes_of(ports, cycle_id), timeout_s=5)


WORKER = """
import sys, threading
from pathlib import Path
from infra.ports import Ports
from infra.settings import load_settings
from tests.support.fake_training import fake_command
from trainer.launch import Launcher
Launcher(Ports(load_settings(Path(sys.argv[1]))), threading.Event(), fake_command).run(sys.argv[2])
"""


def test_a_cycle_of_two_processes_ends_with_the_adapter_of_one_though_one_was_killed(tiny: Ports) -> None:
    """kill -9 of a process that doesn't lead brings the leader down too; what goes on afterwards are two again."""
    tables = make_tables(demonstrations=8)
    alone, together = (make_snapshotted_cycle(tiny, tables, alias=alias) for alias in ("alone", "together"))
    assert train(tiny, alone) is CycleState.GATING
    thread, outcome = in_thread(lambda: Launcher(tiny, threading.Event()).run(together))
    wait_until(lambda: cycle_row(tiny, together).progress, WAIT_S)
    follower = run_by(tiny, together, "1")
    assert follower is not None
    follower.kill()
    thread.join()
    assert outcome == ["crashed"]
    assert processes_of(tiny, together) == []
    assert Launcher(tiny, threading.Event()).run(together) == CycleState.GATING, cycle_row(tiny, together).reason
    assert_like(tiny, together, alone)
    files = {path.parent.name for path in work_dir(tiny.home, together).root.rglob(f"*/{MARKER}")}
    assert files == {"sft", "reward", "policy", "evaluating", "publishing"}
    assert not list(work_dir(tiny.home, together).root.glob("*.part"))


def test_two_processes_share_an_engine_and_end_together_where_it_is_away_for_one(tiny: Ports) -> None:
    with running_engine(SamplingEngine(failures=[503])) as engine:
        serve_by(engine, tiny)
        cycle_id = make_snapshotted_cycle(tiny, method="grpo", sampler="engine")
        assert Launcher(tiny, threading.Event()).run(cycle_id) == "crashed"
        crashes = (work_dir(tiny.home, cycle_id).root / "crashes.txt").read_text()
        assert crashes.startswith("the engine answered 503")
        assert Launcher(tiny, threading.Event()).run(cycle_id) == CycleState.GATING, cycle_row(tiny, cycle_id).reason
    asked = Counter(body["model"].rpartition("_")[2] for body in engine.requests if "messages" in body)
    assert asked["1"] == tiny.settings.trainer.policy_prompts
    assert asked["candidate"] == asked["served"] == tiny.settings.trainer.evaluate_prompts + CHECKS
    assert engine.adapters == {}


def serve_by(engine: SamplingEngine, ports: Ports) -> None:
    revision = base_revision(Path(ports.settings.serving.model))
    replica = make_replica(address=engine.address, base_revision=revision, served_model="served")
    with ports.database.transaction() as session:
        fleet.report_replica(session, replica)


def assert_like(ports: Ports, cycle_id: str, other_id: str) -> None:
    mine, theirs = (adapter_of(ports, one) for one in (cycle_id, other_id))
    assert mine.keys() == theirs.keys()
    assert all((mine[name] - theirs[name]).abs().max() < 2e-3 for name in theirs)
    steps, others = (read_metrics(work_dir(ports.home, one).metrics_file("policy")) for one in (cycle_id, other_id))
    assert [step["loss"] for step in steps] == pytest.approx([step["loss"] for step in others], abs=1e-4)
    assert tokens_of(ports, cycle_id) == pytest.approx(tokens_of(ports, other_id), rel=0.3)
    assert_same_measured(evidence_of(ports, cycle_id), evidence_of(ports, other_id))


def assert_same_measured(mine: Evidence, theirs: Evidence) -> None:
    assert mine.kl_anchor is not None
    assert theirs.kl_anchor is not None
    assert (mine.kl_anchor.n, len(mine.smoke)) == (theirs.kl_anchor.n, len(theirs.smoke))


def tokens_of(ports: Ports, cycle_id: str) -> int:
    """That the policy learnt from, padding included, which differs with how rows are dealt."""
    return int(result_of(ports, cycle_id, CycleState.POLICY)[COST]["tokens"]["learning"])


def adapter_of(ports: Ports, cycle_id: str) -> dict[str, Tensor]:
    path = ports.artifacts.local_path(f"adapters/{published(ports, cycle_id).version}")
    return load_file(path / "adapter_model.safetensors")
