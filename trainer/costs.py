"""What a stage costs: seconds by what they went to, and tokens through the model."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trainer.report_costs import COST


@dataclass
class Meter:
    """Of one process, counting up. Tokens are positions in the layers, padding included: what was computed.

    Samples that an engine writes are not among them.
    """

    clock: Callable[[], float] = time.monotonic
    load_s: float = 0.0
    learning_tokens: int = 0  # with gradient
    reading_tokens: int = 0  # without

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Fetching and reading what a stage works with. Never one inside another: its seconds would count twice."""
        began = self.clock()
        try:
            yield
        finally:
            self.load_s += self.clock() - began

    def watch(self, decoder: nn.Module) -> None:
        decoder.register_forward_pre_hook(self._add, with_kwargs=True)

    def of(self, start_s: float, stage: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Runs it and adds to its result what it cost; `start_s`: how long it had been due before it began."""
        began, load_s, learning, reading = self.clock(), self.load_s, self.learning_tokens, self.reading_tokens
        result = stage()
        load_s = self.load_s - load_s
        seconds = {"start": start_s, "load": load_s, "work": self.clock() - began - load_s}
        tokens = {"learning": self.learning_tokens - learning, "reading": self.reading_tokens - reading}
        return {**result, COST: {"seconds": seconds, "tokens": tokens}}

    def _add(self, _decoder: nn.Module, _arguments: tuple[Any, ...], named: dict[str, Tensor]) -> None:
        given = named.get("input_ids")
        count = (named["inputs_embeds"][..., 0] if given is None else given).numel()
        if torch.is_grad_enabled():
            self.learning_tokens += count
        else:
            self.reading_tokens += count
