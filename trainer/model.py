"""One base model in memory and any number of LoRA adapters on it; the reference is the base with adapters off."""

import json
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from peft import LoraConfig, inject_adapter_in_model
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer

from infra.base_model import base_revision, check_model, file_sha256
from infra.settings import TrainerSettings
from trainer.errors import TrainerError
from trainer.lines import Cost, cost_of
from trainer.switch import Switch, SwitchRefused, lora_layers, turn_unguarded, without_peft_warnings
from trainer.world import ALONE, World

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
FULL = {"full_attention"}
PREFIX = "base_model.model."  # what PEFT and vLLM expect before a module's name


class UnsupportedModel(TrainerError):
    """The directory's files can't be loaded, or the logits are more than a linear head on the decoder."""


class AdapterMismatch(TrainerError):
    """An adapter's tensors are not those that this base takes."""


@dataclass(frozen=True, slots=True)
class Base:
    """The frozen base. Only its adapters ever get gradients."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    directory: Path
    revision: str
    switch: Switch
    world: World = ALONE
    recomputes: bool = False  # whether a backward runs each layer's forward again instead of keeping what it needs
    shares: bool = False  # whether several answers may stand behind one prompt: see `_shares`

    @property
    def cost(self) -> Cost | None:
        """Of a line with several answers; None where there can't be one."""
        return cost_of(self.hidden_size) if self.shares else None

    @property
    def device(self) -> torch.device:
        return self.model.device

    @property
    def decoder(self) -> nn.Module:
        """The layers below the language-model head."""
        return self.model.base_model

    @property
    def head(self) -> nn.Module:
        """Hidden states to logits. It never has an adapter."""
        found: nn.Module = self.model.get_output_embeddings()
        return found

    @property
    def hidden_size(self) -> int:
        return int(self.model.config.hidden_size)

    @property
    def end_ids(self) -> frozenset[int]:
        """Token ids that end an answer: generation_config.json's, else the tokenizer's."""
        configured = getattr(self.model.generation_config, "eos_token_id", None)
        found = configured if isinstance(configured, list) else [configured, self.tokenizer.eos_token_id]
        return frozenset(int(token) for token in found if token is not None)


def load_base(
    directory: Path, *, device: str = "cpu", dtype: str = "float32", world: World = ALONE, recomputes: bool = False
) -> Base:
    """Any Hugging Face causal LM directory with a chat template.

    Raises infra.base_model.NotAModel where it is none, UnsupportedModel where it can't be loaded or its logits are not
    head(decoder(ids)).
    """
    check_model(directory)
    transformers.logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            directory, dtype=getattr(torch, dtype), local_files_only=True, attn_implementation="sdpa"
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UnsupportedModel(f"{directory} can't be loaded: {' '.join(str(error).split())}") from error
    nn.Module.to(model, device)  # transformers' own `to` is typed for another class
    model.eval().requires_grad_(False)
    if recomputes:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    switch = Switch(model, model.base_model)
    base = Base(model, tokenizer, directory, base_revision(directory), switch, world, recomputes)
    _check_head(base)
    return replace(base, shares=_shares(base))


def using(base: Base, name: str | None) -> AbstractContextManager[None]:
    """The adapter is on inside the block, None: all off. Raises SwitchRefused where a gradient would be lost."""
    return base.switch.using(name)


@contextmanager
def recomputing(base: Base) -> Iterator[None]:
    """Layers keep their inputs alone, where the base recomputes and a gradient is wanted.

    transformers asks each layer whether it is in training; only its own flag is set, so that no dropout comes on.
    """
    layers = [layer for layer in base.decoder.modules() if isinstance(layer, GradientCheckpointingLayer)]
    wanted = base.recomputes and torch.is_grad_enabled()
    for layer in layers:
        layer.training = wanted
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


def attach_fresh(base: Base, name: str, settings: TrainerSettings, seed: int) -> None:
    """The LoRA that the settings describe, for SFT and policy."""
    attach_adapter(
        base,
        name,
        rank=settings.lora_rank,
        alpha=settings.lora_alpha,
        targets=settings.lora_target_modules,
        seed=seed,
    )


def attach_adapter(base: Base, name: str, *, rank: int, alpha: int, seed: int, targets: Collection[str] = ()) -> None:
    """A fresh LoRA on every linear layer below the head, or on those whose name ends in one of `targets`.

    B is zero, so it changes nothing until trained. Raises UnsupportedModel for a target that this base has not.
    """
    known = _linear_names(base)
    if unknown := sorted(set(targets) - set(known)):
        raise UnsupportedModel(f"{base.directory} has no linear layer {unknown[0]}: there are {', '.join(known)}")
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets) or known, lora_dropout=0.0, bias="none")
    with using(base, None), torch.random.fork_rng(devices=[]), without_peft_warnings():
        torch.manual_seed(seed)
        inject_adapter_in_model(config, base.model, adapter_name=name)
        turn_unguarded(base.model, None)  # injecting had turned the new adapter on
    for parameter in adapter_parameters(base, name):
        parameter.data = parameter.data.float()  # bf16 weights would swallow small updates


def adapter_parameters(base: Base, name: str) -> list[nn.Parameter]:
    """In a fixed order: A and B of each layer."""
    return list(_parameters(base, name).values())


def load_adapter(base: Base, name: str, directory: Path) -> None:
    """Raises AdapterMismatch when names or shapes are not this base's, UnsupportedModel when a kind of layer is not."""
    config = json.loads((directory / CONFIG).read_text())
    found = load_file(directory / WEIGHTS)
    attach_adapter(base, name, rank=config["r"], alpha=config["lora_alpha"], targets=config["target_modules"], seed=0)
    wanted = _parameters(base, name)
    wrong = sorted(found.keys() ^ wanted.keys())
    wrong += sorted(key for key in found.keys() & wanted.keys() if found[key].shape != wanted[key].shape)
    if wrong:
        remove_adapter(base, name)
        raise AdapterMismatch(f"{directory.name} does not fit base {base.revision}: {', '.join(wrong[:4])}")
    for key, parameter in wanted.items():
        parameter.data.copy_(found[key])


def copy_adapter(base: Base, source: str, target: str) -> None:
    """`target` becomes a trainable copy of `source`, which stays as it is."""
    like = _known(base, source)
    attach_adapter(base, target, rank=like.r, alpha=like.lora_alpha, targets=_targets(like), seed=0)
    for old, new in zip(adapter_parameters(base, source), adapter_parameters(base, target), strict=True):
        new.data.copy_(old.data)


def remove_adapter(base: Base, name: str) -> None:
    """The adapter must not be on."""
    if base.switch.active == name:
        raise SwitchRefused(f"adapter {name!r} is on: it can't be removed")
    with without_peft_warnings():
        for layer in lora_layers(base.model):
            layer.delete_adapter(name)
    getattr(base.model, "peft_config", {}).pop(name, None)


def save_adapter(base: Base, name: str, directory: Path) -> str:
    """PEFT's layout as vLLM loads it; the same weights give the same bytes. Returns the weights' SHA-256."""
    directory.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {
        key: value.detach().cpu().contiguous() for key, value in _parameters(base, name).items()
    }
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})
    (directory / CONFIG).write_text(json.dumps(_config(base, name), indent=1, sort_keys=True))
    return file_sha256(directory / WEIGHTS)


@torch.no_grad()
def _check_head(base: Base) -> None:
    """Training runs the head on answer positions only; soft caps and scales of the logits would be lost."""
    ids = torch.arange(8, device=base.device)[None]
    logits = base.head(base.decoder(input_ids=ids).last_hidden_state)
    if not torch.allclose(logits, base.model(input_ids=ids).logits, atol=1e-3, rtol=1e-3):
        raise UnsupportedModel(f"{base.directory}: the logits of {type(base.model).__name__} are no plain linear head")


@torch.no_grad()
def _shares(base: Base) -> bool:
    """Whether answers behind one prompt get the states that each gets alone: our mask replaces the model's own."""
    config = base.model.config
    if getattr(config, "sliding_window", None) or set(getattr(config, "layer_types", None) or FULL) != FULL:
        return False
    prompt, first, second = [0, 1, 2, 3], [4, 5], [6, 7, 4]
    ids_1L = torch.tensor([[*prompt, *first, *second]], device=base.device)
    branch_L = torch.tensor([0] * 4 + [1] * 2 + [2] * 3, device=base.device)
    seen_LL = ((branch_L[:, None] == branch_L) | (branch_L == 0)).tril()
    place_1L = torch.tensor([[0, 1, 2, 3, 4, 5, 4, 5, 6]], device=base.device)
    try:
        together = base.decoder(input_ids=ids_1L, attention_mask=seen_LL[None, None], position_ids=place_1L)
    except (RuntimeError, TypeError, ValueError):  # no attention, or none that takes such a mask
        return False
    alone = base.decoder(input_ids=torch.tensor([[*prompt, *second]], device=base.device))
    return torch.allclose(together.last_hidden_state[0, 6:], alone.last_hidden_state[0, 4:], atol=1e-3, rtol=1e-3)


def _config(base: Base, name: str) -> dict[str, Any]:
    """The fields that PEFT and vLLM read, with no machine's paths in them."""
    known = _known(base, name)
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base.revision,
        "r": known.r,
        "lora_alpha": known.lora_alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(_targets(known)),
        "inference_mode": True,
    }


def _known(base: Base, name: str) -> LoraConfig:
    """What inject_adapter_in_model noted."""
    return cast(dict[str, LoraConfig], base.model.peft_config)[name]


def _targets(known: LoraConfig) -> set[str]:
    return cast(set[str], known.target_modules)


def _parameters(base: Base, name: str) -> dict[str, nn.Parameter]:
    """PEFT file key -> parameter."""
    part = f".{name}.weight"
    return {
        PREFIX + key.removesuffix(part) + ".weight": parameter
        for key, parameter in base.model.named_parameters()
        if key.endswith(part) and (".lora_A." in key or ".lora_B." in key)
    }


def _linear_names(base: Base) -> list[str]:
    """Last parts of the names of all linear layers in the decoder, adapted ones counted once."""
    found = set()
    for path, module in base.decoder.named_modules():
        parts = path.split(".")
        if isinstance(module, nn.Linear) and not any(part.startswith("lora_") for part in parts):
            found.add(parts[-2] if parts[-1] == "base_layer" else parts[-1])
    return sorted(found)
