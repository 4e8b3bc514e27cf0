"""What is checked before any load: the engine itself takes an adapter full of NaN, or of the wrong shape, with 200."""

import json
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.base_model import NotAModel, base_revision, file_sha256
from infra.contracts.manifests import AdapterManifest
from infra.settings import ServingSettings
from serving.errors import Refused
from serving.tensors import Tensor, Unreadable, read_shapes, read_tensors

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PREFIX = "base_model.model."  # what PEFT and vLLM put before a module's name
PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
LORA_A, LORA_B = ".lora_A.weight", ".lora_B.weight"
# Parts of PEFT that vLLM does not apply: an adapter that uses them would answer differently from what was measured.
UNSUPPORTED = (
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "use_dora",
    "layer_replication",
    "trainable_token_indices",
)


@dataclass(frozen=True, slots=True)
class BaseShapes:
    """What an adapter has to fit: (out, in) of each linear layer that takes one, by module name, and the revision."""

    revision: str
    linear: dict[str, tuple[int, int]]

    @property
    def targets(self) -> frozenset[str]:
        return frozenset(_last(name) for name in self.linear)


def read_base(directory: Path, only: Collection[str] = ()) -> BaseShapes:
    """Hashes the weights, which takes a while for a large model. Raises NotAModel as `linear_layers` does."""
    linear = linear_layers(directory, only)
    return BaseShapes(base_revision(directory), linear)


def read_bases(settings: ServingSettings, model: Path) -> list[BaseShapes]:
    """Of `serving.model`, which `model` is, and of `serving.next_model` where that is set and another one."""
    directories = [model, *([Path(settings.next_model)] if settings.next_model else [])]
    found = [read_base(directory, settings.lora_target_modules) for directory in directories]
    return found[:1] if found[0].revision == found[-1].revision else found


def linear_layers(directory: Path, only: Collection[str] = ()) -> dict[str, tuple[int, int]]:
    """(out, in) of the matrices inside the layers, or of those `only`; embeddings and the head take no adapter.

    Raises NotAModel for a name that this base has not.
    """
    shapes = {name.removesuffix(".weight"): shape for name, shape in read_shapes(directory).items()}
    linear = {name: (shape[0], shape[1]) for name, shape in shapes.items() if len(shape) == 2 and ".layers." in name}
    known = {_last(name) for name in linear}
    if unknown := sorted(set(only) - known):
        raise NotAModel(
            f"{directory} has no linear layer {unknown[0]}, which serving.lora_target_modules names; there are "
            + ", ".join(sorted(known))
        )
    return {name: shape for name, shape in linear.items() if not only or _last(name) in only}


def validate(directory: Path, manifest: AdapterManifest, base: BaseShapes, max_rank: int) -> None:
    """Raises Refused with the first reason found; reads files only, and nothing that could run code."""
    _check_files(directory)
    _check_hash(directory / WEIGHTS, manifest.sha256)
    if manifest.base_revision != base.revision:
        raise Refused(f"it was trained on base {manifest.base_revision}, this is base {base.revision}")
    targets = _check_config(_read_config(directory), manifest, base, max_rank)
    _check_tensors(_read_weights(directory / WEIGHTS), manifest.rank, base, targets)


def _check_files(directory: Path) -> None:
    pickled = sorted(path.name for path in directory.rglob("*") if path.suffix in PICKLES)
    if pickled:
        raise Refused(f"{pickled[0]} is a pickle, which can run code when it is read: only safetensors are taken")
    missing = [name for name in (WEIGHTS, CONFIG) if not (directory / name).is_file()]
    if missing:
        raise Refused(f"{missing[0]} is missing")


def _check_hash(path: Path, sha256: str) -> None:
    found = file_sha256(path)
    if found != sha256:
        raise Refused(f"{path.name} has SHA-256 {found[:12]}, its manifest says {sha256[:12]}: it was tampered with")


def _read_config(directory: Path) -> dict[str, Any]:
    try:
        found = json.loads((directory / CONFIG).read_text())
    except ValueError as error:
        raise Refused(f"{CONFIG} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise Refused(f"{CONFIG} holds no object")
    return found


def _check_config(config: dict[str, Any], manifest: AdapterManifest, base: BaseShapes, max_rank: int) -> frozenset[str]:
    """Returns the target modules."""
    if config.get("peft_type") != "LORA":
        raise Refused(f"{CONFIG} describes a {config.get('peft_type')}, only LORA is taken")
    if config.get("r") != manifest.rank:
        raise Refused(f"{CONFIG} says rank {config.get('r')}, the manifest {manifest.rank}")
    if manifest.rank > max_rank:
        raise Refused(f"its rank {manifest.rank} is above serving.max_lora_rank = {max_rank}")
    used = [name for name in UNSUPPORTED if config.get(name)]
    if used or config.get("bias", "none") != "none":
        raise Refused(f"it uses {used[0] if used else 'bias'}, which the engine does not apply")
    if not _is_positive(config.get("lora_alpha")):
        raise Refused(f"lora_alpha is {config.get('lora_alpha')}")
    return _check_targets(config.get("target_modules"), base)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _is_positive(value: object) -> bool:
    """JSON's true would count as 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _check_targets(targets: object, base: BaseShapes) -> frozenset[str]:
    if not isinstance(targets, list) or not targets:
        raise Refused("target_modules is not a list of module names")
    names = frozenset(_last(str(target)) for target in targets)
    if unknown := sorted(names - base.targets):
        raise Refused(f"target module {unknown[0]} is no linear layer of this base that takes an adapter here")
    return names


def _read_weights(path: Path) -> list[Tensor]:
    try:
        return read_tensors(path)
    except Unreadable as error:
        raise Refused(f"{path.name} is truncated or no safetensors file: {error}") from None


def _check_tensors(tensors: Iterable[Tensor], rank: int, base: BaseShapes, targets: frozenset[str]) -> None:
    halves: dict[str, set[str]] = {}
    for tensor in tensors:
        module, half = _split(tensor.name)
        if module not in base.linear or _last(module) not in targets:
            raise Refused(f"tensor {tensor.name} belongs to no target module of this base")
        _check_shape(tensor, half, rank, base.linear[module])
        _check_values(tensor)
        halves.setdefault(module, set()).add(half)
    if not halves:
        raise Refused(f"{WEIGHTS} holds no tensor")
    for module, found in halves.items():
        if len(found) != 2:
            raise Refused(f"{module} has only one of its two LoRA matrices")


def _split(name: str) -> tuple[str, str]:
    for half in (LORA_A, LORA_B):
        if name.startswith(PREFIX) and name.endswith(half):
            return name.removeprefix(PREFIX).removesuffix(half), half
    raise Refused(f"tensor {name} is no LoRA matrix")


def _check_shape(tensor: Tensor, half: str, rank: int, linear: tuple[int, int]) -> None:
    outputs, inputs = linear
    wanted = (rank, inputs) if half == LORA_A else (outputs, rank)
    if tensor.shape != wanted:
        raise Refused(f"tensor {tensor.name} has shape {list(tensor.shape)}, this base needs {list(wanted)}")


def _check_values(tensor: Tensor) -> None:
    try:
        finite = tensor.is_finite()
    except Unreadable as error:
        raise Refused(str(error)) from None
    if not finite:
        raise Refused(f"tensor {tensor.name} holds values that are not finite")
