"""What a checkpoint gives back is what went in, whole or not at all."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trainer.checkpoints import NOWHERE, Checkpoints
from trainer.optimizing import Optimiser
from trainer.sampling import Sampled
from trainer.world import World


class Box:
    """Any tree as a state."""

    def __init__(self, tree: dict[str, Any]) -> None:
        self.tree = tree

    def state_dict(self) -> dict[str, Any]:
        return self.tree

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self.tree = state


def checkpoints(directory: Path, **overrides: Any) -> Checkpoints:
    return Checkpoints(directory / "here", **{"identity": {"method": "dpo"}, "every_s": 0.0, **overrides})


def test_trees_of_tensors_numbers_and_texts_come_back_as_they_were(tmp_path: Path) -> None:
    tree = {"rate": 0.1, 3: [torch.tensor([1.5, 2.5]), {"n": None}], "beta": [0.9, 0.999], "on": True}
    checkpoints(tmp_path).restore({})
    checkpoints(tmp_path).keep({"box": Box(tree)}, [{"loss": 1 / 3}], last=False)
    found = Box({})
    assert checkpoints(tmp_path).restore({"box": found}) == [{"loss": 1 / 3}]
    assert torch.equal(found.tree[3].pop(0), tree[3].pop(0))
    assert found.tree == tree


def test_an_optimizer_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    def steps(weight: nn.Parameter, optimizer: Optimiser, count: int) -> None:
        for _ in range(count):
            (weight**2).sum().backward()
            optimizer.step(0.5)

    straight, broken, resumed = (nn.Parameter(torch.arange(1.0, 4.0)) for _ in range(3))
    steps(straight, Optimiser(([straight], 0.1)), 5)
    first, second = Optimiser(([broken], 0.1)), Optimiser(([resumed], 0.1))
    steps(broken, first, 3)
    checkpoints(tmp_path).restore({})
    checkpoints(tmp_path).keep({"optimizer": first}, [{}] * 3, last=False)
    checkpoints(tmp_path).restore({"optimizer": second})
    resumed.data.copy_(broken.data)
    steps(resumed, second, 2)
    assert torch.equal(straight, resumed)


def test_another_training_s_checkpoints_are_thrown_away(tmp_path: Path) -> None:
    checkpoints(tmp_path).restore({})
    checkpoints(tmp_path).keep({"box": Box({})}, [{}], last=True)
    other = checkpoints(tmp_path, identity={"method": "kto"})
    assert other.restore({"box": Box({})}) == []
    assert checkpoints(tmp_path, identity={"method": "kto"}).restore({"box": Box({})}) == []


def test_only_the_newest_is_left_and_samples_of_steps_that_are_done_go(tmp_path: Path) -> None:
    kept = checkpoints(tmp_path)
    kept.restore({})
    for step in range(3):
        kept.keep_samples(step, [[Sampled([1], [2], [-0.1], "stop", "x")]])
        kept.keep({"box": Box({"step": step})}, [{}] * (step + 1), last=False)
    kept.keep_samples(3, [[Sampled([1], [2], [-0.1 / 3], "length", "y")]])
    assert sorted(path.name for path in (tmp_path / "here").glob("s*-*")) == ["samples-3.json", "step-3"]
    assert kept.samples(2) is None
    assert kept.samples(3) == [[Sampled([1], [2], [-0.1 / 3], "length", "y")]]


def test_a_checkpoint_that_was_not_finished_is_none(tmp_path: Path) -> None:
    kept = checkpoints(tmp_path)
    kept.restore({})
    kept.keep({"box": Box({})}, [{}], last=False)
    (tmp_path / "here" / "step-7-abc.part").mkdir()
    assert len(checkpoints(tmp_path).restore({"box": Box({})})) == 1


def test_between_two_of_them_passes_some_time_but_the_last_is_always_kept(tmp_path: Path) -> None:
    now = [0.0]
    kept = checkpoints(tmp_path, every_s=10.0, clock=lambda: now[0])
    kept.restore({})
    for second in range(1, 16):
        now[0] = float(second)
        kept.keep({"box": Box({})}, [{}] * second, last=second == 15)
        expected = {True: 0, second >= 10: 10, second == 15: 15}[True]
        assert [path.name for path in (tmp_path / "here").glob("step-*")] == ([f"step-{expected}"] if expected else [])


def test_of_several_processes_only_the_first_writes(tmp_path: Path) -> None:
    checkpoints(tmp_path).restore({})
    second = checkpoints(tmp_path, world=World(1, 2))
    second.keep({"box": Box({})}, [{}], last=True)
    second.keep_samples(0, [])
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["identity.txt"]


def test_without_a_directory_nothing_is_kept() -> None:
    NOWHERE.keep({"box": Box({})}, [{}], last=True)
    NOWHERE.keep_samples(0, [])
    assert NOWHERE.restore({"box": Box({})}) == []
    assert NOWHERE.samples(0) is None


@pytest.mark.parametrize("name", ["reward", "judge"])
def test_each_of_several_trainings_has_its_own(tmp_path: Path, name: str) -> None:
    whole = checkpoints(tmp_path)
    for part in ("reward", "judge"):
        whole.part(part).restore({})
        whole.part(part).keep({"box": Box({"name": part})}, [{}], last=True)
    found = Box({})
    whole.part(name).restore({"box": found})
    assert found.tree == {"name": name}
