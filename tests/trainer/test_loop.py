"""Every method, killed after any step and resumed, ends with the weights of a run that was left alone."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.policy import NotingSampler, make_talkative
from tests.support.together import train
from trainer.checkpoints import Checkpoints
from trainer.errors import CancelRequested
from trainer.history import Metrics
from trainer.loop import Course, Enough, run_steps
from trainer.methods.policy import METHODS
from trainer.model import Base, save_adapter
from trainer.norms import Diverged, Norms
from trainer.progress import silent
from trainer.sampling import Sampler

ALL = pytest.mark.parametrize("method", ["sft", *METHODS])


class Killed(BaseException):
    """As sudden as SIGKILL: nothing catches it."""


def killed_after(step: int) -> Callable[[int, int, Metrics], None]:
    def progress(done: int, _total: int, _metrics: Metrics) -> None:
        if done == step:
            raise Killed

    return progress


def straight(method: str, directory: Path, **overrides: Any) -> tuple[str, list[Metrics]]:
    base = make_talkative(directory / "straight", "policy")
    found = train(method, base, directory / "straight", **overrides)
    return save_adapter(base, "policy", directory / "saved"), found.history


def interrupted(
    method: str, directory: Path, kills: list[int], sampler: Callable[[Base], Sampler] = NotingSampler, **more: Any
) -> tuple[str, list[Metrics]]:
    """A new base for each attempt: nothing but the checkpoints goes from one to the next."""
    for attempt, kill in enumerate([*kills, 0]):
        base = make_talkative(directory / f"attempt-{attempt}", "policy")
        kept = Checkpoints(directory / "checkpoints", {"method": method}, every_s=0.0)
        wanted = {"checkpoints": kept, "progress": killed_after(kill), "sampler": sampler(base), **more}
        try:
            found = train(method, base, directory / f"attempt-{attempt}", **wanted)
        except Killed:
            continue
    return save_adapter(base, "policy", directory / "saved"), found.history


def without_times(history: list[Metrics]) -> list[Metrics]:
    return [{name: value for name, value in step.items() if not name.startswith("time/")} for step in history]


@ALL
def test_a_training_that_was_killed_twice_ends_as_if_it_had_not_been(method: str, tmp_path: Path) -> None:
    expected, history = straight(method, tmp_path)
    found, resumed = interrupted(method, tmp_path, kills=[2, 3])
    assert found == expected
    assert without_times(resumed) == without_times(history)


@pytest.mark.parametrize("method", ["grpo", "ppo"])
def test_samples_that_were_drawn_before_the_kill_are_learnt_from_and_not_drawn_again(
    method: str, tmp_path: Path
) -> None:
    """A checkpoint is older than the last samples: what an engine drew since can't be drawn again."""
    drawn: list[NotingSampler] = []

    def noting(base: Base) -> NotingSampler:
        drawn.append(NotingSampler(base))
        return drawn[-1]

    expected, _ = straight(method, tmp_path)
    slow = Checkpoints(tmp_path / "checkpoints", {"method": method}, every_s=1e9)
    base = make_talkative(tmp_path / "first", "policy")
    with pytest.raises(Killed):
        train(method, base, tmp_path, checkpoints=slow, progress=killed_after(3), sampler=noting(base))
    found, _ = interrupted(method, tmp_path, kills=[], sampler=noting)
    assert found == expected
    assert [len(sampler.calls) for sampler in drawn] == [3, 2]


@pytest.mark.parametrize("step", [1, 3])
def test_with_overlap_the_resumed_run_replays_what_was_drawn_ahead(step: int, tmp_path: Path) -> None:
    """The sampler has a base of its own, as an engine has, so that it may draw while the policy is trained."""

    def apart(_base: Base) -> NotingSampler:
        sampler = NotingSampler(make_talkative(tmp_path / "engine"))
        sampler.apart = True
        return sampler

    more = {"policy_overlap": True, "policy_epochs": 1, "policy_minibatch": 16}
    expected, history = straight("grpo", tmp_path, sampler=apart(None), **more)  # type: ignore[arg-type]
    found, _ = interrupted("grpo", tmp_path, kills=[step], sampler=apart, **more)
    assert found == expected
    assert history[0]["sampling/importance_sampling_ratio/mean"] == pytest.approx(1.0, abs=1e-3)
    assert history[1]["sampling/importance_sampling_ratio/mean"] != pytest.approx(1.0, abs=1e-4)


def test_a_step_that_is_kept_has_been_told_whenever_the_kill_comes(tmp_path: Path) -> None:
    told: list[int] = []

    class Dying(Checkpoints):
        def keep(self, state: Any, history: Any, *, last: bool) -> None:
            super().keep(state, history, last=last)
            if len(history) == 2:
                raise Killed

    def attempt(kept: Checkpoints) -> None:
        run_steps(3, lambda index: {"loss": float(index)}, {}, lambda done, *_: told.append(done), kept)

    with pytest.raises(Killed):
        attempt(Dying(tmp_path, every_s=0.0))
    attempt(Checkpoints(tmp_path, every_s=0.0))
    assert told == [1, 2, 3]


def test_a_step_that_finds_no_number_ends_the_training_with_what_was_good() -> None:
    def step(index: int) -> Metrics:
        if index == 2:
            raise Diverged("the gradient is not finite (nan)")
        return {"loss": float(index)}

    found = run_steps(5, step, {}, silent, Checkpoints())
    assert found.history == [{"loss": 0.0}, {"loss": 1.0}]
    assert found.stopped == "stopped before step 3 of 5: the gradient is not finite (nan)"


def test_a_step_may_say_that_it_is_enough() -> None:
    def step(_index: int) -> Metrics:
        raise Enough("the held-out reward has turned")

    assert "has turned" in str(run_steps(5, step, {}, silent, Checkpoints()).stopped)


def test_a_wish_to_cancel_gets_through(tmp_path: Path) -> None:
    def cancelling(*_: object) -> None:
        raise CancelRequested("cycle 1 is to be cancelled")

    with pytest.raises(CancelRequested):
        train("dpo", make_talkative(tmp_path, "policy"), tmp_path, progress=cancelling)


@pytest.mark.parametrize("method", ["sft", "dpo", "kto"])
def test_poisoned_weights_end_a_training_and_are_not_stepped_on(method: str, tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy")
    base.model.get_input_embeddings().weight.data[45:90] = math.nan
    assert "not finite" in str(train(method, base, tmp_path).stopped)
    assert all(torch.isfinite(value).all() for name, value in base.model.named_parameters() if "lora_" in name)


def test_a_gradient_a_thousand_times_the_usual_is_refused() -> None:
    norms = Norms()
    for _ in range(20):
        norms.check(1.0)
    norms.check(900.0)
    quiet = Norms([1e-9] * 20)
    quiet.check(5.0)
    with pytest.raises(Diverged, match="usual was 1"):
        norms.check(1100.0)


def test_a_course_goes_on_where_it_was() -> None:
    first, second = (Course(list(range(7)), 3, seed=1) for _ in range(2))
    for _ in range(4):
        next(first)
    second.load_state_dict(first.state_dict())
    assert [next(second) for _ in range(5)] == [next(first) for _ in range(5)]
    with pytest.raises(ValueError, match="forwards"):
        first.load_state_dict({"taken": 1})
