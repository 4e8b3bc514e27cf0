"""Where a training stands, on disk: what it has changed, its figures so far, and the samples that its next steps use.

No pickle: tensors are in safetensors, the rest in JSON. A checkpoint is written beside its place and renamed into it,
so that there is a whole one or none.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import orjson
import structlog
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.history import Metrics
from trainer.sampling import Sampled
from trainer.world import ALONE, Words, World, words

log = structlog.get_logger()

TENSORS, REST = "state.safetensors", "state.json"
STEP, SAMPLES = "step", "samples"
EVERY_S = 30.0
STEP_NUMBER: Words[int] = words(int)
KEPT: Words[list[list[Sampled]] | None] = words(list[list[Sampled]] | None)


class Stateful(Protocol):
    """What a checkpoint holds, as torch has it: a tree of dicts, lists, tensors and plain values."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> object: ...


@dataclass(eq=False)
class Checkpoints:
    """Of one training, in a directory of its own; of no use (and no harm) without a directory.

    `identity` is what the training was asked to do: the checkpoints of another one are thrown away. Of several
    processes only the first writes, and what it finds is there for all.
    """

    directory: Path | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    every_s: float = EVERY_S
    world: World = ALONE
    clock: Callable[[], float] = time.monotonic
    _written: float = field(init=False)

    def __post_init__(self) -> None:
        self._written = self.clock()

    def part(self, name: str, **identity: object) -> "Checkpoints":
        """For one of several trainings, each with its own."""
        directory = None if self.directory is None else self.directory / name
        return Checkpoints(directory, {**self.identity, **identity}, self.every_s, self.world, self.clock)

    def restore(self, state: Mapping[str, Stateful]) -> list[Metrics]:
        """Loads the newest checkpoint into `state` and returns its history; nothing where there is none."""
        if self.directory is None:
            return []
        newest = self.world.led(self._newest, STEP_NUMBER)
        if newest == 0:
            return []
        found = _unpacked(self.directory / f"{STEP}-{newest}")
        for name, thing in state.items():
            thing.load_state_dict(found["state"][name])
        log.info("training_resumed", step=newest)
        return list(found["history"])

    def keep(self, state: Mapping[str, Stateful], history: Sequence[Metrics], *, last: bool) -> None:
        """Now and then, and always after the last step."""
        if self.directory is None or not self.world.leads or not (last or self.clock() - self._written >= self.every_s):
            return
        found = {"state": {name: thing.state_dict() for name, thing in state.items()}, "history": list(history)}
        _pack(found, self.directory / f"{STEP}-{len(history)}")
        for step in _steps(self.directory):
            if step < len(history):
                shutil.rmtree(self.directory / f"{STEP}-{step}", ignore_errors=True)
        for path in self.directory.glob(f"{SAMPLES}-*.json"):
            if int(path.stem.removeprefix(f"{SAMPLES}-")) < len(history):
                path.unlink(missing_ok=True)
        self._written = self.clock()

    def samples(self, step: int) -> list[list[Sampled]] | None:
        """What was drawn for this step before the process was killed, if anything."""
        return self.world.led(lambda: self._kept_samples(step), KEPT)

    def keep_samples(self, step: int, drawn: Sequence[Sequence[Sampled]]) -> None:
        """Before anything is learnt from them. Floats come back as they were."""
        path = self._samples_path(step)
        if path is not None and self.world.leads:
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{uuid4().hex}.part")
            part.write_bytes(orjson.dumps([[asdict(answer) for answer in group] for group in drawn]))
            part.rename(path)

    def _kept_samples(self, step: int) -> list[list[Sampled]] | None:
        path = self._samples_path(step)
        if path is None or not path.is_file():
            return None
        return [[Sampled(**answer) for answer in group] for group in orjson.loads(path.read_bytes())]

    def _samples_path(self, step: int) -> Path | None:
        return None if self.directory is None else self.directory / f"{SAMPLES}-{step}.json"

    def _newest(self) -> int:
        """The step after which the newest one was written; 0 where there is none of this training."""
        assert self.directory is not None
        self._check_identity(self.directory)
        return max(_steps(self.directory), default=0)

    def _check_identity(self, directory: Path) -> None:
        path = directory / "identity.txt"
        wanted = hashlib.sha256(json.dumps(self.identity, sort_keys=True, default=str).encode()).hexdigest()
        if path.is_file() and path.read_text() == wanted:
            return
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        path.write_text(wanted)


NOWHERE = Checkpoints()


def _steps(directory: Path) -> list[int]:
    return [int(path.name.removeprefix(f"{STEP}-")) for path in directory.glob(f"{STEP}-*") if path.suffix != ".part"]


def _pack(tree: Any, target: Path) -> None:
    part = target.with_name(f"{target.name}-{uuid4().hex}.part")
    part.mkdir(parents=True)
    tensors: dict[str, Tensor] = {}
    (part / REST).write_text(json.dumps(_without_tensors(tree, "", tensors)))
    save_file(tensors, part / TENSORS)
    if target.exists():  # another holder of the lease came first: its state is as good
        shutil.rmtree(part)
    else:
        part.rename(target)


def _unpacked(source: Path) -> Any:
    return _with_tensors(json.loads((source / REST).read_text()), load_file(source / TENSORS))


def _without_tensors(tree: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """JSON; keys of a dict may be numbers, which JSON would make strings."""
    if isinstance(tree, Tensor):
        tensors[path] = tree.detach().contiguous().cpu()
        return {"tensor": path}
    if isinstance(tree, Mapping):
        return {"dict": [[key, _without_tensors(value, f"{path}/{key}", tensors)] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        return [_without_tensors(value, f"{path}/{index}", tensors) for index, value in enumerate(tree)]
    return tree


def _with_tensors(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(tree, list):
        return [_with_tensors(value, tensors) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if "tensor" in tree:
        return tensors[tree["tensor"]]
    return {key: _with_tensors(value, tensors) for key, value in tree["dict"]}
