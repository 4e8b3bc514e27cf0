"""The one loop of every training: steps from where the last checkpoint stands, until they are done or go wrong."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
import torch

from trainer.checkpoints import Checkpoints, Stateful
from trainer.errors import TrainerError
from trainer.history import Metrics, Trained, late_means
from trainer.model import Base, adapter_parameters
from trainer.norms import Diverged
from trainer.progress import Progress

log = structlog.get_logger()

Thing = TypeVar("Thing")
Step = Callable[[int], Metrics]


class Enough(TrainerError):
    """A step found that the training should end, with the weights as they are now; the message says why."""


def run_steps(
    total: int, step: Step, state: Mapping[str, Stateful], progress: Progress, checkpoints: Checkpoints
) -> Trained:
    """`step` does everything of one step and returns its figures. What it changes must be in `state`."""
    history = checkpoints.restore(state)
    for index in range(len(history), total):
        try:
            metrics = step(index)
        except (Diverged, Enough) as reason:
            log.warning("training_stopped", step=index, reason=str(reason))
            return Trained(late_means(history), history, f"stopped before step {index + 1} of {total}: {reason}")
        history.append(metrics)
        progress(index + 1, total, metrics)  # first: a step that is kept is never told again
        checkpoints.keep(state, history, last=index + 1 == total)
    return Trained(late_means(history), history)


@dataclass(frozen=True, slots=True)
class AdapterState:
    """The weights of one adapter."""

    base: Base
    name: str

    def state_dict(self) -> dict[str, Any]:
        return {"parameters": [parameter.detach().clone() for parameter in adapter_parameters(self.base, self.name)]}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        for parameter, found in zip(adapter_parameters(self.base, self.name), state["parameters"], strict=True):
            parameter.data.copy_(found)


class Course(Iterator[list[Thing]]):
    """Every one of them once in random order, then again in another; each call takes what comes next, without end."""

    def __init__(self, things: Sequence[Thing], per_step: int, *, seed: int) -> None:
        self._things, self._per_step = things, per_step
        self._generator = torch.Generator().manual_seed(seed)
        self._waiting: list[int] = []
        self._taken = 0

    def __next__(self) -> list[Thing]:
        while len(self._waiting) < self._per_step:
            self._waiting += torch.randperm(len(self._things), generator=self._generator).tolist()
        taken, self._waiting = self._waiting[: self._per_step], self._waiting[self._per_step :]
        self._taken += 1
        return [self._things[index] for index in taken]

    def state_dict(self) -> dict[str, Any]:
        return {"taken": self._taken}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Raises ValueError where it would have to go back."""
        if state["taken"] < self._taken:
            raise ValueError("a course only goes forwards")
        while self._taken < state["taken"]:
            next(self)
