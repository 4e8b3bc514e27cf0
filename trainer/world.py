"""The processes that train one model together; mostly there is one.

Each has the whole base (or a shard of it), the same adapters and the same optimizer state. A minibatch's forwards are
dealt out among them, its gradients are added up, and what was computed without gradient is put together again. So the
loss is the one that a single process would have, whatever their number: every loss here is normalised by the whole
minibatch (`losses.policy.Whole`, and the sums of weights).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather, pad_across_processes, reduce
from torch import Tensor, nn

Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True)
class World:
    """`rank` of `size` processes."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this one writes and reports for all."""
        return self.rank == 0

    def deal(self, things: Sequence[Thing]) -> Iterator[tuple[Thing, bool]]:
        """This process's share, and whether it counts.

        All get the same number, since a sharded base needs every process in every forward: where things run out, the
        last one is given again and does not count.
        """
        for start in range(0, len(things), self.size):
            at = start + self.rank
            yield things[min(at, len(things) - 1)], at < len(things)

    def add(self, tensor: Tensor) -> Tensor:
        """The sum over all processes; each has left zeros where others have something."""
        return tensor if self.size == 1 else _summed(tensor)

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """In one message."""
        if self.size == 1:
            return
        found = list(parameters)
        flat = torch.cat([_gradient(parameter).flatten() for parameter in found])
        parts = _summed(flat).split([parameter.numel() for parameter in found])
        for parameter, part in zip(found, parts, strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)

    def everyone(self, mine: bytes, device: torch.device) -> list[bytes]:
        """What each process has to say, in the order of their ranks."""
        if self.size == 1:
            return [mine]
        length = torch.tensor([len(mine)], device=device)
        said = torch.frombuffer(bytearray(mine), dtype=torch.uint8).to(device)
        lengths = gather(length).tolist()
        padded = gather(pad_across_processes(said)[None])
        return [bytes(row[:count].cpu().numpy()) for row, count in zip(padded, lengths, strict=True)]

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            PartialState().wait_for_everyone()


ALONE = World()


def world_of(state: PartialState) -> World:
    return World(state.process_index, state.num_processes)


def _summed(tensor: Tensor) -> Tensor:
    found: Tensor = reduce(tensor.contiguous(), reduction="sum")
    return found


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
