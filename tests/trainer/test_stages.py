"""A whole cycle with a real, tiny model: trained, measured, published, and the same again from the same seed."""

import json
import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.contracts.manifests import AdapterManifest, Evidence
from infra.ports import Ports
from infra.registry import adapters
from infra.registry.cycles import CycleState
from infra.settings import SettingsError, TrainerSettings
from tests.support.cycles import cycle_row, hold
from tests.support.datasets import make_snapshotted_cycle, make_tables
from tests.support.home import make_ports
from tests.support.tiny_cycles import Killed, end, make_tiny_ports, published, serve, train
from tests.support.tiny_model import Kind
from tests.support.tiny_training import tiny_environment
from trainer.cycle import FOLLOWING
from trainer.errors import StageFailed
from trainer.launch import child_command
from trainer.workdir import work_dir

pytestmark = pytest.mark.training
SIDES = ("chosen", "rejected")


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = make_tiny_ports(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ports, str]]:
    """A cycle at its gates, which the tests only look at."""
    ports = make_tiny_ports(tmp_path_factory.mktemp("trained"))
    cycle_id = make_snapshotted_cycle(ports)
    assert train(ports, cycle_id) is CycleState.GATING
    yield ports, cycle_id
    ports.close()


def train_in_child(ports: Ports, cycle_id: str, directory: Path) -> None:
    """As the worker does it, under another PYTHONHASHSEED."""
    lease = hold(ports, cycle_id, "trainer", ttl_s=600)
    environ = {**tiny_environment(directory, sft_min_rows=8), "THUMBWHEEL_HOME": str(ports.home), "PYTHONHASHSEED": "7"}
    found = subprocess.run(
        child_command(cycle_id, lease, ports.settings.trainer), env={**os.environ, **environ}, capture_output=True
    )
    assert found.returncode == 0, found.stderr.decode()


def hashes_of(ports: Ports, cycle_id: str) -> dict[str, str]:
    """Of everything that was trained."""
    work = work_dir(ports.home, cycle_id)
    reward = work.result(CycleState.REWARD) or {}
    anchor = work.result(CycleState.SFT) or {}
    found = {role: model["sha256"] for role, model in reward["models"].items()}
    manifest = adapters.manifest_of(published(ports, cycle_id))
    return {**found, "sft": anchor.get("sha256", ""), "adapter": manifest.sha256}


def test_a_cycle_trains_measures_and_publishes(trained: tuple[Ports, str]) -> None:
    ports, cycle_id = trained
    row, manifest = cycle_row(ports, cycle_id), adapters.manifest_of(published(ports, cycle_id))
    assert row.version == f"assistant-{cycle_id}-{manifest.sha256[:8]}"
    files = ports.artifacts.hashes(f"adapters/{row.version}")
    assert files.keys() == {"adapter_config.json", "adapter_model.safetensors", "manifest.json", "evidence.json"}
    assert files["adapter_model.safetensors"] == manifest.sha256
    stored = ports.artifacts.read_json(f"adapters/{row.version}/manifest.json")
    assert AdapterManifest.model_validate(stored) == manifest


def test_the_manifest_says_what_the_version_is_made_of(trained: tuple[Ports, str]) -> None:
    ports, cycle_id = trained
    manifest, row = adapters.manifest_of(published(ports, cycle_id)), cycle_row(ports, cycle_id)
    with ports.database.reading() as session:
        dataset = adapters.get_dataset(session, "default", str(row.dataset_id))
        reward = adapters.get_reward_model(session, str(row.reward_model))
    assert manifest.dataset_sha256 == [dataset.sha256]
    assert (manifest.method, manifest.init, manifest.anchor, manifest.parent) == ("grpo", "anchor", "base", None)
    assert manifest.reward_model == reward.name
    assert reward.manifest["dataset_sha256"] == [dataset.sha256]
    assert manifest.seeds.keys() == {"sft", "reward", "judge", "policy"}
    assert TrainerSettings.model_validate(manifest.settings).policy_steps == 2
    assert "+" in manifest.code_version


@pytest.mark.parametrize("method", ["ppo", "rloo", "dpo", "kto"])
def test_a_cycle_s_policy_is_trained_by_the_method_that_is_set(ports: Ports, method: str) -> None:
    tables = make_tables()
    judged = [(row["prompt"], row[side], side == "chosen") for row in tables["preference"]["train"] for side in SIDES]
    thumbs = [{"prompt": prompt, "completion": text, "label": liked} for prompt, text, liked in judged]
    tables = {**tables, "unpaired": {"train": thumbs}}
    cycle_id = make_snapshotted_cycle(ports, tables, method=method)
    assert train(ports, cycle_id) is CycleState.GATING
    manifest = adapters.manifest_of(published(ports, cycle_id))
    assert manifest.method == method
    assert ("rewards/chosen" in manifest.metrics) == (method in ("dpo", "kto"))


def test_the_evidence_holds_everything_that_the_gates_read(trained: tuple[Ports, str]) -> None:
    ports, cycle_id = trained
    version = str(cycle_row(ports, cycle_id).version)
    evidence = Evidence.model_validate(ports.artifacts.read_json(f"adapters/{version}/evidence.json"))
    assert (evidence.version, evidence.champion) == (version, "base")
    for case in evidence.smoke:
        assert len(case.logprobs) == len(case.token_ids) - 1
    assert len(evidence.smoke) == 4
    assert evidence.kl_anchor is not None
    assert evidence.kl_anchor.value > 0
    assert evidence.kl_champion == evidence.kl_anchor
    assert evidence.judge_win_rate is not None
    assert evidence.judge_win_rate.n == 5
    assert evidence.length_ratio is not None
    assert evidence.probes.keys() == {"refusal", "question", "hedge", "flattery", "repetition", "markdown"}
    assert evidence.reward_accuracy is not None
    assert [(result.name, result.passed) for result in evidence.regressions] == [("cos", False), ("anything", True)]
    assert evidence.regression_drop is not None
    assert evidence.samples[0].judge_candidate is not None


def test_the_report_shows_figures_and_no_text_of_anyone(trained: tuple[Ports, str]) -> None:
    ports, cycle_id = trained
    page = ports.artifacts.read(f"reports/{cycle_id}/report.html").decode()
    assert str(cycle_row(ports, cycle_id).version) in page
    assert "What does" not in page
    assert (
        "KL to the anchor, nats per answer" in ports.artifacts.read_json(f"reports/{cycle_id}/report.json")["measured"]
    )


def test_every_step_of_every_model_is_published_with_the_report(trained: tuple[Ports, str]) -> None:
    ports, cycle_id = trained
    names = ("policy", "reward", "reward-judge")
    text = {name: ports.artifacts.read(f"reports/{cycle_id}/metrics/{name}.jsonl").decode() for name in names}
    steps = {name: [line["step"] for line in map(json.loads, each.splitlines())] for name, each in text.items()}
    assert steps["policy"] == [1, 2]
    assert all(found == list(range(1, len(found) + 1)) and found for found in steps.values())
    assert "objective/kl" in text["policy"]


def test_the_report_bills_what_the_trainer_did(trained: tuple[Ports, str]) -> None:
    ports, cycle_id = trained
    cost = ports.artifacts.read_json(f"reports/{cycle_id}/report.json")["cost"]
    assert cost["missing"] == ["publishing", "gating"]
    assert cost["stages"]["policy"]["learning_tokens"] > 0
    assert cost["stages"]["evaluating"]["learning_tokens"] == 0 < cost["stages"]["evaluating"]["reading_tokens"]
    assert cost["stages"]["sft"]["load"] > 0  # the first that needs a base: the rows' tokens are counted there
    assert cost["wall_s"] == pytest.approx(sum(stage["seconds"] for stage in cost["stages"].values()), abs=0.01)
    assert cost["device"] == "cpu"


def test_the_same_dataset_settings_and_seed_give_the_same_adapter(tmp_path: Path) -> None:
    """SFT, reward model, judge and policy; the second time in a process that hashes strings otherwise."""
    one, two = (make_tiny_ports(tmp_path / name, sft_min_rows=8) for name in ("one", "two"))
    first, second = (make_snapshotted_cycle(ports, make_tables(demonstrations=8)) for ports in (one, two))
    train(one, first)
    train_in_child(two, second, tmp_path / "two")
    assert hashes_of(one, first) == hashes_of(two, second)
    one.close()
    two.close()


def test_another_seed_gives_another_adapter(tmp_path: Path) -> None:
    hashes = []
    for seed in (0, 10):
        ports = make_tiny_ports(tmp_path / str(seed), seed=seed)
        cycle_id = make_snapshotted_cycle(ports)
        train(ports, cycle_id)
        hashes.append(hashes_of(ports, cycle_id))
        ports.close()
    assert hashes[0]["adapter"] != hashes[1]["adapter"]
    assert hashes[0]["reward"] != hashes[1]["reward"]


def test_a_cycle_that_is_killed_again_and_again_ends_with_the_same_adapter(tmp_path: Path) -> None:
    whole, broken = (make_tiny_ports(tmp_path / name, sft_min_rows=8) for name in ("whole", "broken"))
    first, second = (make_snapshotted_cycle(ports, make_tables(demonstrations=8)) for ports in (whole, broken))
    train(whole, first)
    for stage in FOLLOWING:
        with pytest.raises(Killed):
            train(broken, second, dies_in=stage)
    train(broken, second)
    assert hashes_of(broken, second) == hashes_of(whole, first)
    whole.close()
    broken.close()


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_base_of_either_family_goes_through_the_whole_cycle(tmp_path: Path, kind: Kind) -> None:
    ports = make_ports(tmp_path / "home", **tiny_environment(tmp_path, kind=kind, sft_min_rows=8))
    cycle_id = make_snapshotted_cycle(ports, make_tables(demonstrations=8))
    assert train(ports, cycle_id) is CycleState.GATING
    version = str(cycle_row(ports, cycle_id).version)
    evidence = Evidence.model_validate(ports.artifacts.read_json(f"adapters/{version}/evidence.json"))
    assert evidence.kl_anchor is not None
    assert evidence.judge_win_rate is not None
    assert all(math.isfinite(value) for case in evidence.smoke for value in case.logprobs)
    ports.close()


def test_a_policy_that_starts_from_the_champion_says_so_and_names_its_datasets(ports: Ports) -> None:
    first = make_snapshotted_cycle(ports)
    train(ports, first)
    champion = published(ports, first).version
    end(ports, first)
    serve(ports, champion)
    second = make_snapshotted_cycle(ports, make_tables(seed=1), init="champion")
    train(ports, second)
    manifest = adapters.manifest_of(published(ports, second))
    before = adapters.manifest_of(published(ports, first))
    assert (manifest.init, manifest.parent) == ("champion", champion)
    assert set(before.dataset_sha256) < set(manifest.dataset_sha256)
    assert len(manifest.dataset_ids) == 2
    stored = ports.artifacts.read_json(f"adapters/{manifest.version}/evidence.json")
    evidence = Evidence.model_validate(stored)
    assert evidence.champion == champion
    assert evidence.kl_champion is not None
    assert evidence.kl_champion != evidence.kl_anchor


def test_checks_that_cannot_be_read_end_the_cycle_before_anything_is_trained(tmp_path: Path, ports: Ports) -> None:
    (tmp_path / "wrong.jsonl").write_text("{}")
    cycle_id = make_snapshotted_cycle(ports, regression_file=str(tmp_path / "wrong.jsonl"))
    with pytest.raises(SettingsError, match="wrong.jsonl, line 1"):
        train(ports, cycle_id)
    assert cycle_row(ports, cycle_id).state == CycleState.SFT


@pytest.mark.parametrize("score", ["mean", "uncertainty"])
def test_a_policy_learns_from_an_ensemble_and_a_guard_is_published_beside_it(ports: Ports, score: str) -> None:
    """Two in five of those raters are the judge's, and one in four the guard's."""
    wanted: dict[str, Any] = {"reward_members": 2, "reward_score": score, "guard_share": 0.25, "method": "ppo"}
    cycle_id = make_snapshotted_cycle(ports, make_tables(pairs=300), **wanted)
    assert train(ports, cycle_id) is CycleState.GATING
    reward = work_dir(ports.home, cycle_id).result(CycleState.REWARD) or {}
    assert reward["models"].keys() == {"reward", "judge", "guard"}
    with ports.database.reading() as session:
        rows = {row.name: row.path for row in adapters.reward_models(session, "default")}
    for model in reward["models"].values():
        assert ports.artifacts.is_ready(rows[model["name"]])
    files = ports.artifacts.hashes(rows[reward["models"]["reward"]["name"]])
    assert {f"member-{number}/adapter_model.safetensors" for number in (0, 1)} < files.keys()


def test_demonstrations_make_an_anchor_of_their_own(ports: Ports) -> None:
    cycle_id = make_snapshotted_cycle(ports, make_tables(demonstrations=8), sft_min_rows=8)
    train(ports, cycle_id)
    manifest = adapters.manifest_of(published(ports, cycle_id))
    assert manifest.anchor.startswith(f"assistant-{cycle_id}-sft-")
    assert ports.artifacts.is_ready(f"anchors/{manifest.anchor}")


def test_too_few_pairs_end_the_cycle_with_counts(ports: Ports) -> None:
    cycle_id = make_snapshotted_cycle(ports, make_tables(pairs=12), min_pairs=50)
    with pytest.raises(StageFailed, match=r"has 8 preference pairs to train on, trainer.min_pairs asks for 50"):
        train(ports, cycle_id)


def test_without_raters_for_a_judge_its_evidence_is_missing(ports: Ports) -> None:
    cycle_id = make_snapshotted_cycle(ports, judge_share=0.0)
    train(ports, cycle_id)
    version = str(cycle_row(ports, cycle_id).version)
    evidence = Evidence.model_validate(ports.artifacts.read_json(f"adapters/{version}/evidence.json"))
    assert evidence.judge_win_rate is None
    assert evidence.samples[0].judge_candidate is None
