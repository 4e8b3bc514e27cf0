"""A tiny reward model, trained and registered as a cycle does it."""

from pathlib import Path
from typing import Any

from infra.clock import now
from infra.contracts.manifests import RewardManifest
from infra.ports import Ports
from infra.registry import adapters
from infra.settings import TrainerSettings
from tests.support.datasets import make_tables
from trainer.data import preferences
from trainer.methods import reward
from trainer.model import Base
from trainer.rewarding import RewardModel


def register_reward_model(ports: Ports, base: Base, directory: Path, name: str, **manifest: Any) -> RewardModel:
    """`directory` is where it is made."""
    settings = TrainerSettings(reward_rank=4, reward_learning_rate=1e-3, reward_features=True)
    pairs = preferences(make_tables(pairs=24)["preference"]["train"])
    model = reward.train(base, pairs, [], name="reward", settings=settings, seed=0, features=True)
    sha256 = model.save(directory)
    ports.artifacts.publish(f"rewards/{name}", directory)
    fields: dict[str, Any] = {
        "name": name, "base_revision": base.revision, "dataset_sha256": ["0" * 64], "sha256": sha256, "features": True,
        "seed": 0, "created_at": now(),
    }  # fmt: skip
    made = RewardManifest.model_validate({**fields, **manifest})
    with ports.database.transaction() as session:
        adapters.register_reward_model(session, "default", made, f"rewards/{name}", name.split("-")[1])
    return model
