"""A whole cycle with a real, tiny model: trained, measured, published, and the same again from the same seed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.contracts.manifests import AdapterManifest, Evidence
from infra.database.tables import AdapterRow
from infra.ports import Ports
from infra.registry import adapters
from infra.registry.cycles import CycleState
from infra.settings import TrainerSettings
from tests.support.cycles import cycle_row, hold
from tests.support.datasets import make_snapshotted_cycle, make_tables
from tests.support.home import make_ports
from tests.support.tiny_training import tiny_environment
from trainer.cycle import Holding, run_stages
from trainer.errors import StageFailed
from trainer.stages.table import open_stages
from trainer.workdir import work_dir

pytestmark = pytest.mark.training


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = make_tiny_ports(tmp_path)
    yield made
    made.close()


def make_tiny_ports(directory: Path, **settings: Any) -> Ports:
    return make_ports(directory / "home", **tiny_environment(directory, **settings))


def train(ports: Ports, cycle_id: str) -> CycleState:
    lease = hold(ports, cycle_id, "trainer")
    holding = Holding(ports.database, cycle_id, lease, work_dir(ports.home, cycle_id))
    with open_stages(ports, holding) as stages:
        return run_stages(holding, stages)


def published(ports: Ports, cycle_id: str) -> AdapterRow:
    version = cycle_row(ports, cycle_id).version
    assert version is not None
    with ports.database.reading() as session:
        return adapters.get(session, version)


def test_a_cycle_trains_measures_and_publishes(ports: Ports) -> None:
    cycle_id = make_snapshotted_cycle(ports)
    assert train(ports, cycle_id) is CycleState.GATING
    row, manifest = cycle_row(ports, cycle_id), adapters.manifest_of(published(ports, cycle_id))
    assert row.version == f"assistant-{cycle_id}-{manifest.sha256[:8]}"
    files = ports.artifacts.hashes(f"adapters/{row.version}")
    assert files.keys() == {"adapter_config.json", "adapter_model.safetensors", "manifest.json", "evidence.json"}
    assert files["adapter_model.safetensors"] == manifest.sha256
    stored = ports.artifacts.read_json(f"adapters/{row.version}/manifest.json")
    assert AdapterManifest.model_validate(stored) == manifest


def test_the_manifest_says_what_the_version_is_made_of(ports: Ports) -> None:
    cycle_id = make_snapshotted_cycle(ports)
    train(ports, cycle_id)
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


def test_the_evidence_holds_everything_that_the_gates_read(ports: Ports) -> None:
    cycle_id = make_snapshotted_cycle(ports)
    train(ports, cycle_id)
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


def test_the_report_shows_figures_and_no_text_of_anyone(ports: Ports) -> None:
    cycle_id = make_snapshotted_cycle(ports)
    train(ports, cycle_id)
    page = ports.artifacts.read(f"reports/{cycle_id}/report.html").decode()
    assert str(cycle_row(ports, cycle_id).version) in page
    assert "What does" not in page
    assert (
        "KL to the anchor, nats per answer" in ports.artifacts.read_json(f"reports/{cycle_id}/report.json")["measured"]
    )


def test_the_same_dataset_settings_and_seed_give_the_same_adapter(tmp_path: Path) -> None:
    hashes = []
    for name in ("one", "two"):
        ports = make_tiny_ports(tmp_path / name)
        cycle_id = make_snapshotted_cycle(ports)
        train(ports, cycle_id)
        hashes.append(adapters.manifest_of(published(ports, cycle_id)).sha256)
        ports.close()
    assert hashes[0] == hashes[1]


def test_another_seed_gives_another_adapter(tmp_path: Path) -> None:
    hashes = []
    for seed in (0, 10):
        ports = make_tiny_ports(tmp_path / str(seed), seed=seed)
        cycle_id = make_snapshotted_cycle(ports)
        train(ports, cycle_id)
        hashes.append(adapters.manifest_of(published(ports, cycle_id)).sha256)
        ports.close()
    assert hashes[0] != hashes[1]


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
