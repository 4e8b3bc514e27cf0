"""The judge's raters are other people than the reward model's."""

from trainer.raters import guards, is_judges, judges, left_out, not_judges

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


def test_every_rater_teaches_one_of_judge_guard_and_reward_model() -> None:
    filters = (judges(0.3), guards(0.3, 0.2), not_judges(0.3 + 0.2))
    assert all(sum(teaches(rater) for teaches in filters) == 1 for rater in RATERS)
    assert 0.17 < sum(map(guards(0.3, 0.2), RATERS)) / len(RATERS) < 0.23


def test_a_guard_of_no_raters_has_none() -> None:
    assert not any(map(guards(0.3, 0.0), RATERS))


def test_each_rater_is_left_out_by_one_member_and_all_leave_out_as_many() -> None:
    groups = left_out(RATERS, 4, seed=1)
    assert frozenset().union(*groups) == set(RATERS)
    assert [len(group) for group in groups] == [500] * 4


def test_who_is_left_out_is_the_seed_s_whatever_the_order_of_the_raters() -> None:
    assert left_out(RATERS, 3, seed=1) == left_out([*RATERS[::-1], RATERS[0]], 3, seed=1) != left_out(RATERS, 3, seed=2)


def test_fewer_raters_than_members_leave_everybody_somebody() -> None:
    assert sorted(map(len, left_out(["a", "b"], 4, seed=0))) == [0, 0, 1, 1]
    assert left_out(["a"], 3, seed=0) == [frozenset()] * 3
