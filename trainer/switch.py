"""Turns LoRA adapters on and off, and refuses to while a backward is still owed.

Switching sets `requires_grad` of the adapter that is switched off to False; a graph built before then leaves its
gradient unset, without a word (huggingface/peft: `BaseTunerLayer.set_adapter`). The policy then trains on nothing.
"""

import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from trainer.errors import TrainerError


class SwitchRefused(TrainerError):
    """An adapter switch between a forward with gradient and its backward."""


class UnknownAdapter(TrainerError):
    """The model has no adapter of that name; PEFT itself would go on with the bare base."""


class OpenPass:
    """A forward with gradient. Its autograd graph holds it, so that it dies with a graph that is thrown away."""

    __slots__ = ("__weakref__", "closed")

    def __init__(self) -> None:
        self.closed = False


class _Watched(torch.autograd.Function):
    """The identity; notes when the gradient comes back through."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, opened: OpenPass) -> Tensor:
        ctx.opened = opened
        return hidden.view_as(hidden)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        ctx.opened.closed = True
        return gradients[0], None


class Switch:
    """Which adapter of one model is on. `model` may gain and lose adapters while the switch lives."""

    def __init__(self, model: nn.Module, decoder: nn.Module) -> None:
        self._model = model
        self._open: weakref.WeakSet[OpenPass] = weakref.WeakSet()
        self.active: str | None = None
        decoder.register_forward_hook(self._watch)

    @contextmanager
    def using(self, name: str | None) -> Iterator[None]:
        """The adapter is on inside, and the one before it again afterwards; None means the bare base.

        Raises SwitchRefused where that would lose a gradient: at the entry, or at the exit when the backward of a
        forward made inside has not run yet.
        """
        before = self.active
        self.turn(name)
        try:
            yield
        except BaseException:
            self._open.clear()  # the step is lost anyway: its own error must reach the caller
            self.turn(before)
            raise
        self.turn(before)

    def turn(self, name: str | None) -> None:
        """Raises UnknownAdapter, or SwitchRefused while a forward with gradient waits for its backward."""
        if name == self.active:
            return
        self._check_known(name)
        if any(not opened.closed for opened in self._open):
            raise SwitchRefused(
                f"adapter {name!r} can't replace {self.active!r}: a forward with gradient still waits for its backward"
            )
        turn_unguarded(self._model, name)
        self.active = name

    def _check_known(self, name: str | None) -> None:
        if name is not None and not any(name in layer.lora_A for layer in lora_layers(self._model)):
            raise UnknownAdapter(f"the base in memory has no adapter {name!r}")

    def _watch(self, _module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Any:
        hidden = output.last_hidden_state
        if hidden.requires_grad:
            opened = OpenPass()
            self._open.add(opened)
            output.last_hidden_state = _Watched.apply(hidden, opened)  # type: ignore[no-untyped-call]  # torch's own
        return output


def turn_unguarded(model: nn.Module, name: str | None) -> None:
    """PEFT's own switch: no check, so a pending gradient is lost. Only `Switch.turn` and its test call this."""
    for layer in lora_layers(model):
        layer.enable_adapters(name is not None)
        if name is not None:
            layer.set_adapter(name)


@contextmanager
def without_peft_warnings() -> Iterator[None]:
    """PEFT warns of several adapters on one model and of deleting the last one used; both are meant here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config`")
        warnings.filterwarnings("ignore", message=".*was active which is now deleted")
        yield


def lora_layers(model: nn.Module) -> list[LoraLayer]:
    return [module for module in model.modules() if isinstance(module, LoraLayer)]
