"""Which value of a vote counts, and what a vote states."""

import itertools

import pytest

from feedback.votes import current
from infra.contracts.events import Feedback, Source
from tests.support.events import event_id, make_comparison, make_feedback, make_ranking, moment
from tests.support.feedback import make_vote


def test_the_latest_value_of_a_vote_counts_in_whatever_order_they_arrive() -> None:
    votes = [
        make_vote(make_feedback(value=value), f"vote {at}", occurred_at=moment(at))
        for at, value in enumerate([True, False, True, False])
    ]
    for arrival in itertools.permutations(votes):
        assert current(arrival) == [votes[-1]]


def test_of_two_votes_at_the_same_moment_the_greater_event_id_counts() -> None:
    votes = [make_vote(make_feedback(value=value), f"vote {value}") for value in (True, False)]
    winner = max(votes, key=lambda vote: vote.envelope.event_id.hex)
    assert current(votes) == current(votes[::-1]) == [winner]


def test_votes_of_two_raters_on_one_answer_both_count() -> None:
    assert len(current([make_vote(name="one", rater="rater-1"), make_vote(name="two", rater="rater-2")])) == 2


def test_a_comparison_is_one_vote_whichever_way_round_it_was_shown() -> None:
    one, other = make_vote(make_comparison("r1", "r2"), "one"), make_vote(make_comparison("r2", "r1"), "other")
    assert one.vote_id == other.vote_id


def test_the_two_choices_of_one_response_are_voted_on_apart() -> None:
    first, second = make_vote(make_feedback(index=0)), make_vote(make_feedback(index=1))
    assert first.vote_id != second.vote_id


def test_the_same_vote_of_another_tenant_is_another_vote() -> None:
    assert make_vote(tenant="acme").vote_id != make_vote().vote_id


def test_a_null_retracts() -> None:
    assert make_vote(make_feedback(value=None)).retracted
    assert not make_vote(make_feedback(value=False)).retracted


@pytest.mark.parametrize(
    ("body", "pairs"),
    [
        (make_comparison(choice="a"), 1),
        (make_comparison(choice="b"), 1),
        (make_comparison(choice="tie"), 0),
        (make_comparison(choice="both_bad"), 0),
        (make_comparison(choice=None), 0),
        (make_ranking(["r1"], ["r2"], ["r3"]), 3),
        (make_ranking(["r1", "r2"], ["r3"]), 2),
        (make_ranking(["r1"], ["r2"], value=None), 0),
        (make_feedback(kind="correction", name="correction", value="Better."), 1),
        (make_feedback(value=True), 0),
    ],
)
def test_strict_choices_are_counted_as_pairs(body: Feedback, pairs: int) -> None:
    assert make_vote(body).strict_pairs == pairs


def test_a_vote_points_at_its_responses_or_at_its_conversation() -> None:
    assert make_vote(make_comparison("r1", "r2")).targets == {"r1", "r2"}
    assert make_vote(make_feedback("r1")).targets == {"r1"}
    assert make_vote(make_feedback(None, session_id="s1")).targets == {"session:s1"}


def test_a_latency_is_in_seconds_and_absent_where_it_was_not_measured() -> None:
    assert make_vote(make_comparison(latency_ms=1500.0)).latency_s == 1.5
    assert make_vote(make_feedback()).latency_s is None


def test_event_ids_of_builders_are_stable() -> None:
    assert event_id("vote") == make_vote(name="vote").envelope.event_id


def test_a_models_vote_is_another_one_than_a_persons_of_the_same_name_and_counts_for_no_pair() -> None:
    person, model = make_vote(make_comparison()), make_vote(make_comparison(), source=Source.AI)
    assert person.vote_id != model.vote_id
    assert (person.strict_pairs, model.strict_pairs) == (1, 0)
