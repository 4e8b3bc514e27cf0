"""Samples come from the adapter exactly as it is, under names that are used once and always retired."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.policy import NotingSampler, make_context, make_prompts
from tests.support.training import disturb, make_base, make_settings
from trainer.batches import all_logprobs
from trainer.errors import StageFailed, TryAgain
from trainer.loop import Course
from trainer.model import Base, using
from trainer.on_policy import Drawer, settle_truncated
from trainer.world import World

REWARDS = torch.tensor([1.0, 5.0, 3.0, 9.0])


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return make_base(tmp_path, adapters=("policy",))


def test_the_adapter_under_training_is_what_samples(base: Base, tmp_path: Path) -> None:
    disturb(base, "policy")
    samples = Drawer(make_context(base, tmp_path / "samples", prompts=make_prompts()[:2])).take(0)
    with using(base, "policy"):
        expected = all_logprobs(base, samples.rows)
    for mine, theirs in zip(samples.sampler_logps, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-4, rtol=0)


def test_every_step_has_a_name_of_its_own_that_is_retired(base: Base, tmp_path: Path) -> None:
    sampler = NotingSampler(base)
    context = make_context(base, tmp_path / "samples", sampler=sampler, policy_steps=3)
    drawer = Drawer(context)
    for step in range(3):
        drawer.take(step)
    assert sampler.published == sampler.retired == ["train-1-1_0", "train-1-1_1", "train-1-1_2"]
    assert list((tmp_path / "samples").iterdir()) == []


def test_a_name_is_retired_and_its_files_removed_when_sampling_fails(base: Base, tmp_path: Path) -> None:
    class Failing(NotingSampler):
        def sample(self, *_prompts: Any, **_wanted: Any) -> Any:
            raise TryAgain("the engine is away")

    sampler = Failing(base)
    with pytest.raises(TryAgain):
        Drawer(make_context(base, tmp_path / "samples", sampler=sampler)).take(0)
    assert sampler.retired == ["train-1-1_0"]
    assert list((tmp_path / "samples").iterdir()) == []


def test_the_model_in_memory_does_not_draw_while_it_learns(base: Base, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"trainer\.policy_overlap needs an engine"):
        Drawer(make_context(base, tmp_path / "samples", policy_overlap=True))


def test_training_samples_are_drawn_from_the_whole_distribution(base: Base, tmp_path: Path) -> None:
    sampler = NotingSampler(base)
    Drawer(make_context(base, tmp_path / "samples", sampler=sampler, policy_samples=3, policy_steps=5)).take(4)
    call = sampler.calls[0]
    assert (call["temperature"], call["top_p"], call["n"], call["adapter"]) == (1.0, 1.0, 3, "train-1-1_4")


def test_steps_and_seeds_have_seeds_of_their_own(base: Base, tmp_path: Path) -> None:
    sampler = NotingSampler(base)
    for seed, step in ((0, 0), (0, 1), (1, 0)):
        Drawer(make_context(base, tmp_path / "samples", sampler=sampler, seed=seed)).take(step)
    assert len({call["seed"] for call in sampler.calls}) == 3


@pytest.mark.parametrize(("sharded", "drawn"), [(False, 2), (True, 4)])
def test_each_of_two_processes_draws_half_but_all_from_a_sharded_base(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sharded: bool, drawn: int
) -> None:
    """Both at once here: the other one's share is the same, and nobody waits."""
    monkeypatch.setattr(World, "wait", lambda self: None)
    monkeypatch.setattr(World, "everyone", lambda self, mine, device: [mine, mine])
    sampler = NotingSampler(base)
    settings = make_settings(policy_prompts=4, shard_base=sharded)
    context = make_context(base, tmp_path / "samples", sampler=sampler, settings=settings)
    samples = Drawer(replace(context, base=replace(base, world=World(0, 2)))).take(0)
    assert len(sampler.calls[0]["prompts"]) == drawn
    assert len(samples.rows) == 4 * context.settings.policy_samples


def test_whole_answers_keep_their_rewards() -> None:
    rewards, kept = settle_truncated(REWARDS, torch.zeros(4, dtype=torch.bool), "penalise")
    assert torch.equal(rewards, REWARDS)
    assert kept.all()


def test_a_cut_answer_is_a_standard_deviation_worse_than_the_worst_whole_one() -> None:
    rewards, kept = settle_truncated(REWARDS, torch.tensor([False, False, False, True]), "penalise")
    assert rewards.tolist() == pytest.approx([1.0, 5.0, 3.0, 1.0 - 2.0])
    assert kept.all()


def test_a_masked_answer_takes_no_part_and_keeps_its_reward() -> None:
    rewards, kept = settle_truncated(REWARDS, torch.tensor([False, True, False, False]), "mask")
    assert torch.equal(rewards, REWARDS)
    assert kept.tolist() == [True, False, True, True]


def test_answers_that_were_all_cut_are_equally_bad() -> None:
    rewards, _ = settle_truncated(REWARDS, torch.ones(4, dtype=torch.bool), "penalise")
    assert rewards.tolist() == [1.0] * 4


def test_one_whole_answer_is_enough_to_be_better_than_a_cut_one() -> None:
    rewards, _ = settle_truncated(REWARDS, torch.tensor([False, True, True, True]), "penalise")
    assert rewards.tolist() == [1.0, 0.0, 0.0, 0.0]


def test_every_prompt_comes_once_before_any_comes_again() -> None:
    steps = list(islice(Course(make_prompts(), 4, seed=0), 6))
    asked = [prompt.prompt_id for step in steps for prompt in step]
    assert [len(step) for step in steps] == [4] * 6
    for start in range(0, 24, 6):
        assert len(set(asked[start : start + 6])) == 6


def test_the_course_is_the_same_for_the_same_seed_only() -> None:
    def first(seed: int) -> list[str]:
        return [prompt.prompt_id for prompt in next(Course(make_prompts(), 6, seed=seed))]

    assert first(0) == first(0) != first(1)


def test_more_prompts_a_step_than_there_are_come_more_than_once() -> None:
    assert len(next(Course(make_prompts()[:2], 5, seed=0))) == 5
