"""The judge's raters are other people than the reward model's."""

from trainer.raters import is_judges, judges, not_judges

RATERS = [f"{number:032x}" for number in range(2000)]


def test_every_rater_teaches_exactly_one_of_the_two() -> None:
    for_judge, for_reward = judges(0.3), not_judges(0.3)
    assert all(for_judge(rater) != for_reward(rater) for rater in RATERS)


def test_about_the_asked_share_is_the_judges() -> None:
    assert 0.27 < sum(is_judges(rater, 0.3) for rater in RATERS) / len(RATERS) < 0.33


def test_a_rater_stays_where_it_is_when_the_share_grows() -> None:
    assert all(is_judges(rater, 0.5) for rater in RATERS if is_judges(rater, 0.3))


def test_votes_of_nobody_named_are_never_the_judges() -> None:
    assert not is_judges(None, 0.99)
    assert not is_judges("", 0.99)
