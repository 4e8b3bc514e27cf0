"""What the stages of one cycle share, each loaded when first asked for: settings, dataset, base, sampler, champion."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import structlog

from infra.contracts.manifests import DatasetManifest
from infra.contracts.routing import BASE_VERSION, Replica, is_base
from infra.database.tables import CycleRow
from infra.ports import Ports
from infra.registry import adapters, fleet
from infra.settings import TrainerSettings
from trainer import data
from trainer.checkpoints import Checkpoints
from trainer.costs import Meter
from trainer.cycle import Holding
from trainer.data import Prompt, read_table
from trainer.engine_sampler import EngineSampler
from trainer.errors import StageFailed
from trainer.hardware import open_base, world_here
from trainer.model import Base
from trainer.overrides import effective
from trainer.publish import MANIFEST, adapter_path, reward_path
from trainer.sampling import Sampler
from trainer.stages.engines import ready_replicas
from trainer.transformers_sampler import TransformersSampler
from trainer.world import Words, World, words

log = structlog.get_logger()

PATH: Words[Path] = words(Path)
REPLICAS: Words[list[Replica]] = words(list[Replica])
VERSION: Words[str] = words(str)
NAME: Words[str | None] = words(str | None)


@dataclass(frozen=True, slots=True)
class Teacher:
    """A published reward model, copied here."""

    name: str
    files: Path


@dataclass
class Material:
    ports: Ports
    holding: Holding
    meter: Meter = field(default_factory=Meter)

    @cached_property
    def row(self) -> CycleRow:
        """As it was when the child started; the state moves on, the rest that is read here doesn't."""
        return self.holding.row()

    @cached_property
    def settings(self) -> TrainerSettings:
        return effective(self.ports.settings.trainer, self.row.settings)

    @cached_property
    def world(self) -> World:
        """The processes that work on this cycle. What one asks of the others all must ask, in the same order."""
        return world_here(self.settings)

    @cached_property
    def dataset_manifest(self) -> DatasetManifest:
        if self.row.dataset_id is None:
            raise StageFailed(f"cycle {self.row.cycle_id} came without a dataset")
        with self.ports.database.reading() as session:
            row = adapters.get_dataset(session, self.row.tenant, self.row.dataset_id)
        manifest = DatasetManifest.model_validate(row.manifest)
        if manifest.erased or row.erased_at is not None:
            raise StageFailed(f"dataset {row.dataset_id} was erased")
        return manifest

    @cached_property
    def dataset(self) -> Path:
        """A checked copy: what is trained on is what was hashed."""
        with self.ports.database.reading() as session:
            stored = adapters.get_dataset(session, self.row.tenant, self.dataset_manifest.dataset_id).path
        self.holding.work.root.mkdir(parents=True, exist_ok=True)
        local = self.holding.work.at("dataset")
        with self.meter.loading():
            return self.world.led(lambda: self.ports.artifacts.fetch(stored, local, without="index/"), PATH)

    @cached_property
    def base(self) -> Base:
        model = self.ports.settings.serving.model
        if not model:
            raise StageFailed("serving.model is not set: there is no base to train")
        with self.meter.loading():
            base = open_base(Path(model), self.settings)
        self.meter.watch(base.decoder)
        return base

    @cached_property
    def replicas(self) -> list[Replica]:
        """Engines that sample for this cycle; empty means that the model in memory does."""
        if self.settings.sampler == "transformers":
            return []
        found = self.world.led(lambda: ready_replicas(self.ports.database), REPLICAS)
        ours = [replica for replica in found if replica.base_revision == self.base.revision]
        if found and not ours:
            raise StageFailed(f"{found[0].name} serves another base than serving.model ({self.base.revision})")
        return ours

    @cached_property
    def sampler(self) -> Sampler:
        if not self.replicas:
            log.info("sampler_chosen", sampler="transformers")
            return TransformersSampler(self.base)
        addresses = [replica.address for replica in self.replicas]
        log.info("sampler_chosen", sampler="engine", addresses=addresses)
        return EngineSampler(addresses, self.ports.engine_key, self.replicas[0].served_model)

    @property
    def room(self) -> int:
        """Most tokens of a prompt that leave room for an answer, in training and on every engine that samples."""
        longest = [self.settings.max_length, *(replica.max_model_len or math.inf for replica in self.replicas)]
        return int(min(longest)) - self.settings.policy_max_new_tokens

    def prompts(self, split: str) -> list[Prompt]:
        """Those that leave room for an answer."""
        room = self.room
        known = data.prompts(read_table(self.dataset, "prompts", split))
        found = data.fitting(self.base.tokenizer, known, room)
        if len(found) < len(known):
            log.info(
                "prompts_left_out", split=split, kept=len(found), too_long=len(known) - len(found), most_tokens=room
            )
        return found

    def champion(self) -> str:
        """What the alias serves now; `base` where it never served anything else, or serves on another base by now."""
        revision = self.base.revision
        return self.world.led(lambda: self._champion(revision), VERSION)

    def _champion(self, base_revision: str) -> str:
        with self.ports.database.reading() as session:
            table = fleet.routing_table(session)
        route = table.aliases.get(self.row.alias) if table else None
        return route.champion if route and route.base_revision == base_revision else BASE_VERSION

    def adapter_files(self, version: str) -> Path:
        """A checked copy of a published adapter."""
        target = self.holding.work.at(f"fetched-{version}")
        with self.meter.loading():
            return self.world.led(lambda: self._fetched(adapter_path(version), target), PATH)

    def _fetched(self, stored: str, target: Path) -> Path:
        return target if target.is_dir() else self.ports.artifacts.fetch(stored, target)

    def reward_of(self, version: str) -> "Teacher | None":
        """What a version was trained with; None of the base, of what needed none, and where it is gone."""
        found = self.world.led(lambda: self._reward_of(version), NAME)
        if not found:
            return None
        target = self.holding.work.at(f"fetched-{found}")
        with self.meter.loading():
            files = self.world.led(lambda: self._fetched(reward_path(found), target), PATH)
        return Teacher(found, files)

    def _reward_of(self, version: str) -> str | None:
        if is_base(version):
            return None
        with self.ports.database.reading() as session:
            manifest = adapters.manifest_of(adapters.get(session, version))
        kept = manifest.reward_model and self.ports.artifacts.exists(f"{reward_path(manifest.reward_model)}/{MANIFEST}")
        return manifest.reward_model if kept and manifest.base_revision == self.base.revision else None

    def checkpoints(self, name: str) -> Checkpoints:
        """Of one training of this cycle; they go with the cycle's directory."""
        identity = {
            "dataset": self.dataset_manifest.sha256,
            "base": self.base.revision,
            "settings": self.settings.model_dump(mode="json"),
        }
        root = self.holding.work.root / "checkpoints" / name
        return Checkpoints(root, identity, self.settings.checkpoint_s, self.base.world)

    @property
    def samples_name(self) -> str:
        """What reserved, unroutable names begin with. The epoch tells this child's from an earlier one's.

        After the cycle there is one hyphen: the controller reads `train-<cycle>-...` to know whose they are.
        """
        return f"train-{self.row.cycle_id}-{self.holding.lease.epoch}"

    def close(self) -> None:
        """Ends the engine client's connections, where there are any."""
        sampler = self.__dict__.get("sampler")
        if isinstance(sampler, EngineSampler):
            sampler.close()
