"""Votes find their answers, and what becomes of those that don't."""

from collections.abc import Sequence

import pytest

from feedback.judgements.exchange import Answers, Exchange, Unusable, make_exchange
from feedback.judgements.join import join
from feedback.judgements.judgement import Verdict
from feedback.votes import Vote
from infra.contracts.events import Feedback, Inference
from tests.support.events import make_choice, make_comparison, make_feedback, make_inference, make_ranking, moment
from tests.support.feedback import ALIAS, make_answered, make_judgement, make_vote

TWO = (make_inference("r1", texts=["Good answer."]), make_inference("r2", texts=["Bad answer."]))


def lost(vote: Vote | Feedback, answered: Sequence[Inference] = TWO, alias: str = ALIAS) -> dict[str, int]:
    """The reasons for which nothing was joined."""
    exchanges = {body.response_id: make_exchange(make_answered(body)) for body in answered}
    joined, reasons = join([vote if isinstance(vote, Vote) else make_vote(vote)], Answers(exchanges), alias)
    assert not joined
    return dict(reasons)


def texts(body: Feedback, **inference: object) -> list[list[str]]:
    judgement = make_judgement(body, texts=("one", "two", "three"), **inference)  # type: ignore[arg-type]
    return [[answer.message["content"] for answer in group] for group in judgement.groups]


def test_the_chosen_answer_comes_first() -> None:
    assert texts(make_comparison("r1", "r2", "a")) == [["one"], ["two"]]
    assert texts(make_comparison("r1", "r2", "b")) == [["two"], ["one"]]


def test_tied_answers_are_one_group() -> None:
    assert texts(make_comparison("r1", "r2", "tie")) == [["one", "two"]]
    assert texts(make_comparison("r1", "r2", "both_bad")) == [["one", "two"]]


def test_a_ranking_keeps_its_order_and_its_ties() -> None:
    assert texts(make_ranking(["r3"], ["r1", "r2"])) == [["three"], ["one", "two"]]


def test_what_was_shown_first_is_told_by_the_answer_not_by_the_letter() -> None:
    judgement = make_judgement(make_comparison("r1", "r2", "b", shown_first="a"))
    assert judgement.first_shown == "r1#0"
    assert judgement.groups[0][0].ref == "r2#0"


def test_two_choices_of_one_response_can_be_compared() -> None:
    body = make_inference("r1", texts=["one", "two"])
    exchange = make_exchange(make_answered(body))
    judgements, _ = join([make_vote(make_comparison("r1#1", "r1#0"))], Answers({"r1": exchange}), ALIAS)
    assert [group[0].ref for group in judgements[0].groups] == ["r1#1", "r1#0"]


@pytest.mark.parametrize(
    ("stars", "verdict"),
    [(1, Verdict.BAD), (2, Verdict.BAD), (3, Verdict.NEUTRAL), (4, Verdict.GOOD), (5.0, Verdict.GOOD)],
)
def test_four_stars_are_good_and_two_are_bad(stars: float, verdict: Verdict) -> None:
    assert make_judgement(make_feedback(kind="rating", name="rating", value=stars)).verdict is verdict


def test_a_vote_whose_answer_is_not_there_is_counted_as_such() -> None:
    assert lost(make_comparison("r1", "r9")) == {"inference_missing": 1}


def test_a_choice_that_the_response_never_had_is_counted() -> None:
    assert lost(make_feedback("r1", index=4)) == {"no_such_choice": 1}


def test_a_retracted_vote_makes_nothing() -> None:
    assert lost(make_feedback("r1", value=None)) == {"retracted": 1}


@pytest.mark.parametrize(
    "body",
    [
        make_feedback("r1", kind="comment", name="comment", value="Hm."),
        make_feedback("r1", kind="custom", name="tone", value=0.7),
        make_feedback(None, session_id="s1", kind="comment", name="comment", value="Hm."),
        make_feedback(None, session_id="s1", kind="correction", name="correction", value="Better."),
        make_comparison("r1", "r2", "neither of them"),
    ],
)
def test_comments_and_metrics_are_no_judgement_of_an_answer_nor_of_a_conversation(body: Feedback) -> None:
    assert lost(body) == {"not_a_judgement": 1}


def test_answers_that_keep_no_content_make_no_row() -> None:
    bare = make_inference("r1", stored=False, choices=[make_choice(message=None)], request={})
    assert lost(make_feedback("r1"), [bare]) == {"not_stored": 1}


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_answers_that_broke_off_make_no_row(status: str) -> None:
    assert lost(make_feedback("r1"), [make_inference("r1", status=status)]) == {"unfinished": 1}


def test_a_prompt_with_an_image_makes_no_row() -> None:
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}
    assert lost(make_feedback("r1"), [make_inference("r1", request={"messages": [image]})]) == {
        "unsupported_content": 1
    }


def test_votes_on_another_alias_are_none_of_its_business() -> None:
    assert lost(make_feedback("r1"), alias="another") == {}


def test_only_the_current_value_is_joined() -> None:
    exchanges = {body.response_id: make_exchange(make_answered(body)) for body in TWO}
    votes = [
        make_vote(make_comparison("r1", "r2", choice), f"vote {at}", occurred_at=moment(at))
        for at, choice in enumerate("ab")
    ]
    (judgement,), _ = join(votes, Answers(exchanges), ALIAS)
    assert judgement.groups[0][0].ref == "r2#0"


def test_the_behaviour_logprob_is_the_sum_over_the_answers_tokens() -> None:
    exchange = make_exchange(make_answered(make_inference("r1")))
    assert isinstance(exchange, Exchange)
    assert exchange.answers[0].behaviour_logprob == pytest.approx(-0.875)


def test_an_answer_without_captured_logprobs_has_no_behaviour_logprob() -> None:
    exchange = make_exchange(make_answered(make_inference("r1", choices=[make_choice(logprobs=[])])))
    assert isinstance(exchange, Exchange)
    assert exchange.answers[0].behaviour_logprob is None


def test_an_unusable_exchange_says_why() -> None:
    assert make_exchange(make_answered(make_inference(stored=False))) == Unusable("not_stored")


def test_votes_that_name_nobody_are_split_by_their_conversation() -> None:
    anonymous = make_judgement(rater=None, session_id="s1")
    assert anonymous.unit == "nobody:s1"
    assert make_judgement(rater=None).unit == "nobody:r1"
