"""The base as this process is to have it: on its device, in its precision, alone or as one of several processes."""

from datetime import timedelta
from pathlib import Path

import torch
from accelerate import PartialState
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from infra.settings import TrainerSettings
from trainer.errors import TrainerError
from trainer.model import Base, load_base
from trainer.world import World, world_of

PATIENCE = timedelta(days=1)  # others wait while the first one samples or publishes; one that dies is noticed at once


class NoSuchDevice(TrainerError):
    """The settings name hardware that this machine has not."""


def open_base(directory: Path, settings: TrainerSettings) -> Base:
    """Of several processes (`accelerate launch`) each calls this, and becomes part of the base's world.

    Raises NoSuchDevice, infra.base_model.NotAModel, UnsupportedModel.
    """
    torch.set_num_threads(settings.threads)
    world, device = world_here(settings), PartialState().device
    dtype = ("float32" if device.type == "cpu" else "bfloat16") if settings.dtype == "auto" else settings.dtype
    base = load_base(directory, device=str(device), dtype=dtype, world=world, recomputes=settings.recompute)
    if settings.shard_base and base.world.size > 1:
        shard(base)
    return base


def world_here(settings: TrainerSettings) -> World:
    """Of this process, as `accelerate launch` or torchrun started it. Raises NoSuchDevice."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise NoSuchDevice("trainer.device is cuda, and torch finds no GPU here")
    cpu = settings.device == "cpu" or not torch.cuda.is_available()
    return world_of(PartialState(cpu=cpu, timeout=PATIENCE))


def shard(base: Base) -> None:
    """FSDP: each process keeps its part of every layer's weights, and has a whole layer only while it runs.

    Adapters, embeddings and head stay whole: the first are what is trained, the others are used outside of layers.
    """
    mesh = init_device_mesh(base.device.type, (base.world.size,))
    for layer in layers_of(base):
        fully_shard(layer, mesh=mesh)


def layers_of(base: Base) -> list[nn.Module]:
    """Raises TrainerError where the decoder does not keep them as transformers' models do."""
    layers = getattr(base.decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise TrainerError(f"{type(base.model).__name__} has no list of layers that could be sharded")
    return list(layers)
