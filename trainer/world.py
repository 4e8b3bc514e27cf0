"""The processes that train one model together; mostly there is one.

Each has the whole base (or a shard of it), the same adapters and the same optimizer state. A minibatch's forwards are
dealt out among them, its gradients are added up, and what was computed without gradient is put together again. So the
loss is the one that a single process would have, whatever their number: every loss here is normalised by the whole
minibatch (`losses.policy.Whole`, and the sums of weights).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather, pad_across_processes, reduce
from pydantic import ConfigDict, TypeAdapter
from torch import Tensor, nn
from torch.distributed import DistError

from trainer.errors import PeerGone

Thing = TypeVar("Thing")
Words = TypeAdapter  # what processes say to each other goes as JSON: nothing is unpickled


def words(kind: Any) -> Words[Any]:
    """Of this type, which is no dataclass itself; floats come back as they were, be they numbers or not."""
    return TypeAdapter(kind, config=ConfigDict(ser_json_inf_nan="constants"))


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

    def everyone(self, mine: Thing, kind: "Words[Thing]") -> list[Thing]:
        """What each process has to say, in the order of their ranks."""
        return [mine] if self.size == 1 else [kind.validate_json(said) for said in _gathered(kind.dump_json(mine))]

    def told(self, word: Thing, kind: "Words[Thing]") -> Thing:
        """The first one's word, whatever the others have."""
        return self.led(lambda: word, kind)

    def led(self, find: Callable[[], Thing], kind: "Words[Thing]") -> Thing:
        """What the first one finds; the others don't look, so that all go on from the same."""
        if self.size == 1:
            return find()
        said = kind.dump_json(find()) if self.leads else b"null"
        return kind.validate_json(_gathered(said)[0])

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            PartialState().wait_for_everyone()

    def leave(self) -> None:
        """The last thing that all do together: threads that outlive the interpreter would abort the process."""
        self.wait()
        PartialState().destroy_process_group()


ALONE = World()


def world_of(state: PartialState) -> World:
    return World(state.process_index, state.num_processes)


@contextmanager
def heeding_peers() -> Iterator[None]:
    """Raises PeerGone for what fails because another process has ended.

    NCCL and the store have a class for it, gloo has its name in the text of a RuntimeError.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, DistError) or (type(error) is RuntimeError and "gloo" in str(error)):
            raise PeerGone(f"another training process has ended: {error}") from error
        raise


def _gathered(mine: bytes) -> list[bytes]:
    device = PartialState().device
    length = torch.tensor([len(mine)], device=device)
    said = torch.frombuffer(bytearray(mine), dtype=torch.uint8).to(device)
    lengths = gather(length).tolist()
    padded = gather(pad_across_processes(said)[None])
    return [bytes(row[:count].cpu().numpy()) for row, count in zip(padded, lengths, strict=True)]


def _summed(tensor: Tensor) -> Tensor:
    found: Tensor = reduce(tensor.contiguous(), reduction="sum")
    return found


def _gradient(parameter: nn.Parameter) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
