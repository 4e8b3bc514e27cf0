"""Where the figures of a training's steps go, beside the terminal or the registry: one call, any number of places."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from trainer.metrics_file import MetricsFile
from trainer.trackers import open_mlflow, open_tensorboard

Tracker = Literal["mlflow", "tensorboard"]


class Sink(Protocol):
    """One series of steps. After a resume the first step is one that was written before: it replaces what follows."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def part(self, name: str) -> "Sink":
        """A second series of the same training; it ends with the whole."""

    def __exit__(self, *exception: object) -> None: ...


OPENERS: dict[Tracker, Callable[[Path, str], Sink]] = {"mlflow": open_mlflow, "tensorboard": open_tensorboard}


@dataclass(frozen=True, slots=True)
class Sinks:
    """Many as one; none is nowhere."""

    each: Sequence[Sink] = ()

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        for sink in self.each:
            sink.write(step, metrics)

    def part(self, name: str) -> "Sinks":
        return Sinks([sink.part(name) for sink in self.each])

    def __exit__(self, *exception: object) -> None:
        for sink in self.each:
            sink.__exit__(*exception)


NOWHERE = Sinks()


@contextmanager
def open_sinks(file: Path, report_to: Sequence[Tracker], directory: Path, run: str) -> Iterator[Sinks]:
    """The file of metrics always, and what `report_to` names. Raises SettingsError where one of those isn't installed.

    Trackers without a server write below `directory`, where `run` tells one training from another.
    """
    sinks = Sinks([MetricsFile(file), *(OPENERS[name](directory, run) for name in report_to)])
    with ExitStack() as stack:
        stack.push(sinks.__exit__)
        yield sinks
