"""The guard in the loop: what it sees of each step, that it ends a training, and which adapter is there afterwards."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.policy import RuleReward, make_context, make_talkative, shorter_is_better
from tests.support.training import disturb
from trainer.guarding import Watch
from trainer.history import Trained
from trainer.methods.policy import SAMPLING, PolicyContext, policy_method
from trainer.model import Base, adapter_parameters
from trainer.observation import GAIN, Observation
from trainer.on_policy import Drawer, Samples

STEEP: dict[str, Any] = {"policy_learning_rate": 1e-2, "policy_beta": 0.0, "policy_steps": 30}


class Foolish(RuleReward):
    """A held-out reward that wants answers of about eight tokens, where the reward wants none at all."""

    def __init__(self) -> None:
        super().__init__(lambda answer: -abs(len(answer) - 8.0))


def train(base: Base, directory: Path, **wanted: Any) -> Trained:
    held_out = wanted.pop("held_out", Foolish())
    context = make_context(base, directory, held_out=held_out, **{**STEEP, **wanted})
    return policy_method(wanted.get("method", "rloo"))(context)


def mean_length(context: PolicyContext) -> float:
    return Drawer(context).start(list(context.needed_prompts), 16).mean_length


@pytest.mark.parametrize("method", sorted(SAMPLING))
def test_a_training_ends_where_the_held_out_reward_turns(method: str, tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy")
    found = policy_method(method)(make_context(base, tmp_path, held_out=Foolish(), policy_samples=8, **STEEP))
    assert "the held-out reward has turned" in str(found.stopped)
    assert len(found.history) < 30


def test_the_best_adapter_is_there_afterwards_not_the_last(tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy")
    context = make_context(base, tmp_path, held_out=Foolish(), policy_samples=8, **STEEP)
    found = policy_method("rloo")(context)
    assert found.history[-1]["completions/mean_length"] < 4
    assert mean_length(context) > found.history[-1]["completions/mean_length"] + 1


def test_a_held_out_reward_that_agrees_stops_nothing(tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy")
    found = train(base, tmp_path, held_out=RuleReward(shorter_is_better))
    assert (found.stopped, len(found.history)) == (None, 30)
    assert found.history[-1]["completions/mean_length"] < 3


def test_the_kl_budget_ends_a_training_and_the_state_before_is_kept(tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy")
    context = make_context(base, tmp_path, policy_kl_budget=2.0, **STEEP)
    found = policy_method("rloo")(context)
    assert "the budget is 2" in str(found.stopped)
    assert all(step["objective/kl"] <= 2.0 for step in found.history)


def test_a_budget_that_the_first_step_breaks_leaves_the_adapter_as_it_was(tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy")
    disturb(base, "policy")
    before = [parameter.clone() for parameter in adapter_parameters(base, "policy")]
    found = policy_method("rloo")(make_context(base, tmp_path, policy_kl_budget=1e-6, **STEEP))
    assert (found.history, found.metrics) == ([], {})
    assert all(map(torch.equal, before, adapter_parameters(base, "policy")))


def test_the_history_tells_the_gain_over_the_start(tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy")
    found = train(base, tmp_path, held_out=RuleReward(shorter_is_better), policy_steps=20)
    first, last = (Observation.read(found.history[index]).held_out for index in (0, -1))
    assert first is not None and last is not None
    assert abs(first.value) < 4 * first.se + 1.5  # the start against itself, on twelve-token answers
    assert last.value > 3


def test_without_a_held_out_reward_nothing_more_is_sampled(tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy")
    found = policy_method("rloo")(make_context(base, tmp_path, policy_steps=2))
    assert GAIN not in found.history[0]


def test_answers_that_shrink_to_nothing_are_told(tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy")
    found = train(base, tmp_path, held_out=RuleReward(shorter_is_better))
    assert any(warning.startswith("answers went from") for warning in found.warnings)


def test_a_watch_that_was_put_away_goes_on_as_it_was(tmp_path: Path) -> None:
    base = make_talkative(tmp_path, "policy")
    context = make_context(base, tmp_path, held_out=Foolish(), policy_steps=4)
    samples = [_look(context, step) for step in range(4)]
    live, again = (Watch(context, Drawer(context)) for _ in range(2))
    told = [live.look(one, torch.zeros(len(one.rows))) for one in samples[:2]]
    again.load_state_dict(live.state_dict())
    disturb(base, "policy", seed=3)  # the start's answers are not drawn anew
    for one in samples[2:]:
        told.append(live.look(one, torch.zeros(len(one.rows))))
        assert again.look(one, torch.zeros(len(one.rows))) == told[-1]
    assert told[0].keys() == told[-1].keys()


def _look(context: PolicyContext, step: int) -> Samples:
    return Drawer(context).take(step)
