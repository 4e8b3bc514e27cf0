"""A step's rows in forwards that fit into memory, dealt among the processes; their gradients add up to the step's."""

from collections.abc import Callable, Sequence

from torch import Tensor

from trainer.batches import in_parts
from trainer.history import Means, Metrics
from trainer.lines import Encoded
from trainer.model import Base, using

PartLoss = Callable[[list[int]], tuple[Tensor, Metrics]]


def accumulate(base: Base, adapter: str, units: Sequence[Sequence[Encoded]], loss_of: PartLoss) -> Metrics:
    """Forward and backward of each part, by indices of `units`, whose rows have to be in one forward.

    `loss_of` is called with `adapter` on and returns the part's share of the step's loss, and figures that are means
    over the part. Returns the step's.
    """
    found = Means()
    for picked, counts in base.world.deal(in_parts(base, units)):
        with using(base, adapter):
            loss, metrics = loss_of(picked)
            (loss if counts else 0 * loss).backward()
        if counts:
            found.add({"loss": float(loss.detach()) * len(units) / len(picked), **metrics}, len(picked))
    return found.over(base.world).means()
