"""Whose votes train which model of the reward stage."""

from typing import Any

from tests.support.training import make_pair, make_settings
from trainer.raters import guards, judges
from trainer.stages.reward import Rows, Task, tasks

RATERS = [f"{number:032x}" for number in range(200)]


def make_rows(count: int = 200, **overrides: Any) -> Rows:
    return Rows([make_pair(rater=RATERS[number % len(RATERS)], **overrides) for number in range(count)], [])


def roles(found: list[Task]) -> list[str]:
    return [task.role for task in found]


def test_every_rater_s_votes_train_one_of_the_three() -> None:
    rows = make_rows()
    found = tasks(make_settings(judge_share=0.3, guard_share=0.2), rows)
    assert roles(found) == ["reward", "judge", "guard"]
    assert sum(len(rows.of(task.raters).pairs) for task in found) == len(rows.pairs)
    assert len({task.seed for task in found}) == 3


def test_only_the_reward_model_is_an_ensemble() -> None:
    found = tasks(make_settings(reward_members=4, guard_share=0.2), make_rows())
    assert [task.members for task in found] == [4, 1, 1]


def test_where_a_guard_s_raters_gave_too_few_pairs_they_teach_the_reward_model() -> None:
    """A log line says that there will be no guard."""
    rows = make_rows(100)
    wanted, *beside = tasks(make_settings(judge_share=0.3, guard_share=0.02), rows)
    assert roles(beside) == ["judge"]
    assert all(wanted.raters(rater) for rater in RATERS if guards(0.3, 0.02)(rater))


def test_the_judge_s_raters_never_teach_the_reward_model() -> None:
    (wanted,) = tasks(make_settings(judge_share=0.3, guard_share=0.0), make_rows(10))
    assert not any(wanted.raters(rater) for rater in RATERS if judges(0.3)(rater))


def test_without_a_share_for_it_there_is_no_guard() -> None:
    assert roles(tasks(make_settings(judge_share=0.3, guard_share=0.0), make_rows())) == ["reward", "judge"]
