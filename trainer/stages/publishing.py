"""Puts adapter, reward model and judge into the artifact store, and their rows into the registry with the last move."""

import shutil
from pathlib import Path

from sqlalchemy.orm import Session

from infra.clock import now
from infra.contracts.manifests import AdapterManifest, Evidence, RewardManifest
from infra.contracts.routing import BASE_VERSION
from infra.registry import adapters
from infra.registry.cycles import CycleState
from trainer.cycle import Fields, Result
from trainer.progress import StageProgress
from trainer.publish import EVIDENCE, MANIFEST, adapter_path, closure, code_version, reward_path, write_contract
from trainer.report import Findings, write_report
from trainer.stages.asking import publish_queries
from trainer.stages.checking import kept_warnings
from trainer.stages.material import Material

ROLES = ("reward", "judge", "guard")
TRAINING = (CycleState.SFT, CycleState.REWARD, CycleState.POLICY)


def publishing(material: Material, part: Path, progress: StageProgress) -> Result:
    """Directories first, whole and hashed; nothing is known of them until the registry names them."""
    rewards = {role: _publish_reward(material, part, role) for role in ROLES if _trained(material, role)}
    _publish_anchor(material)
    publish_queries(material)
    progress(1, 3, {})
    manifest = _publish_adapter(material, part, rewards.get("reward"))
    progress(2, 3, {})
    write_report(material.ports.artifacts, _findings(material, manifest))
    return {"version": manifest.version, "rewards": rewards}


def register(material: Material, session: Session, result: Result) -> Fields:
    """Registers what was published; the stored manifest is the truth, whoever published it."""
    row, store = material.row, material.ports.artifacts
    for name in result["rewards"].values():
        reward = RewardManifest.model_validate(store.read_json(f"{reward_path(name)}/{MANIFEST}"))
        adapters.register_reward_model(session, row.tenant, reward, reward_path(name), row.cycle_id)
    path = adapter_path(result["version"])
    adapters.register(session, AdapterManifest.model_validate(store.read_json(f"{path}/{MANIFEST}")), path)
    return {"version": result["version"], "reward_model": result["rewards"].get("reward")}


def _publish_adapter(material: Material, part: Path, reward_model: str | None) -> AdapterManifest:
    work, directory = material.holding.work, part / "adapter"
    shutil.copytree(work.at(CycleState.POLICY) / "adapter", directory)
    shutil.copy(work.at(CycleState.EVALUATING) / EVIDENCE, directory / EVIDENCE)
    manifest = _manifest(material, reward_model)
    write_contract(directory / MANIFEST, manifest)
    material.ports.artifacts.publish(adapter_path(manifest.version), directory)
    return manifest


def _publish_anchor(material: Material) -> None:
    """An SFT adapter is what this version's KL was taken to: it is kept, though it never serves."""
    sft = material.holding.work.at(CycleState.SFT)
    if (sft / "adapter").is_dir():
        anchor = (material.holding.work.result(CycleState.SFT) or {})["anchor"]
        material.ports.artifacts.publish(f"anchors/{anchor}", sft / "adapter")


def _manifest(material: Material, reward_model: str | None) -> AdapterManifest:
    row, settings, work = material.row, material.settings, material.holding.work
    policy, evaluated = (work.result(state) or {} for state in (CycleState.POLICY, CycleState.EVALUATING))
    sft = work.result(CycleState.SFT) or {}
    dataset, started_from = material.dataset_manifest, _started_from(material, policy["parent"])
    return AdapterManifest(
        version=evaluated["version"],
        alias=row.alias,
        tenant=row.tenant,
        cycle_id=row.cycle_id,
        base_revision=material.base.revision,
        rank=policy["rank"],
        sha256=policy["sha256"],
        dataset_sha256=closure(dataset.sha256, started_from.dataset_sha256 if started_from else []),
        dataset_ids=closure(dataset.dataset_id, started_from.dataset_ids if started_from else []),
        parent=started_from.version if started_from else None,
        init=settings.init,
        anchor=sft.get("anchor", BASE_VERSION),
        reward_model=reward_model,
        method=policy["method"],
        method_reason=policy["method_reason"],
        warnings=kept_warnings(work),
        seeds=policy["seeds"],
        settings={**settings.model_dump(mode="json"), "method": policy["method"]},  # as to repeat it, `auto` or not
        code_version=code_version(),
        metrics={**policy["metrics"], **evaluated["metrics"]},
        created_at=now(),
    )


def _started_from(material: Material, parent: str | None) -> AdapterManifest | None:
    if parent is None:
        return None
    with material.ports.database.reading() as session:
        return adapters.manifest_of(adapters.get(session, parent))


def _publish_reward(material: Material, part: Path, role: str) -> str:
    found = (material.holding.work.result(CycleState.REWARD) or {})["models"][role]
    directory = part / role
    shutil.copytree(material.holding.work.at(CycleState.REWARD) / role, directory)
    manifest = RewardManifest(
        name=found["name"],
        base_revision=material.base.revision,
        dataset_sha256=[material.dataset_manifest.sha256],
        sha256=found["sha256"],
        features=found["features"],
        seed=found["seed"],
        settings=material.settings.model_dump(mode="json"),
        metrics=found["metrics"],
        code_version=code_version(),
        created_at=now(),
    )
    write_contract(directory / MANIFEST, manifest)
    material.ports.artifacts.publish(reward_path(manifest.name), directory)
    return manifest.name


def _trained(material: Material, role: str) -> bool:
    return role in (material.holding.work.result(CycleState.REWARD) or {})["models"]


def _findings(material: Material, manifest: AdapterManifest) -> Findings:
    return Findings(
        manifest=manifest,
        evidence=_read_evidence(material),
        dataset=material.dataset_manifest,
        results=material.holding.work.results(),
        seconds=material.holding.row().seconds,
        metrics={file.stem: file.read_text() for file in material.holding.work.metrics_files(TRAINING)},
        device=material.base.device.type,
    )


def _read_evidence(material: Material) -> Evidence:
    return Evidence.model_validate_json((material.holding.work.at(CycleState.EVALUATING) / EVIDENCE).read_text())
