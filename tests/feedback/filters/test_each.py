"""Filters that look at one judgement at a time."""

from datetime import timedelta

import pytest

from feedback.filters.comparable import DifferentPrompts, IdenticalAnswers
from feedback.filters.criterion import OtherCriterion
from feedback.filters.neutral import NeutralRating
from feedback.filters.no_consent import NoConsent
from feedback.filters.retention import RetentionEnded
from feedback.filters.too_fast import TooFast
from feedback.filters.unfinished import Unfinished
from infra.contracts.events import Consent
from tests.support.events import NOON, make_choice, make_comparison, make_feedback, make_inference, make_ranking
from tests.support.feedback import make_answered, make_judgement, make_judgements, make_vote

LONG = " ".join(["word"] * 200)  # both answers together take 80 s to read at five words a second


def test_a_vote_faster_than_a_quarter_of_the_reading_time_is_rejected() -> None:
    hasty = make_judgement(make_comparison(latency_ms=19_000.0), texts=(LONG, LONG + " more"))
    assert TooFast().rejects(hasty)


def test_a_vote_that_took_as_long_as_reading_is_kept() -> None:
    patient = make_judgement(make_comparison(latency_ms=60_000.0), texts=(LONG, LONG + " more"))
    assert not TooFast().rejects(patient)


def test_a_vote_without_a_measured_latency_is_kept() -> None:
    assert not TooFast().rejects(make_judgement(make_comparison(latency_ms=None), texts=(LONG, LONG + " more")))


def test_a_share_of_nothing_rejects_nobody() -> None:
    assert not TooFast(share=0.0).rejects(make_judgement(make_comparison(latency_ms=0.0)))


def test_a_rater_who_did_not_consent_is_left_out() -> None:
    assert NoConsent().rejects(make_judgement(rater="rater-2", consent=Consent(train=False)))


def test_an_explicit_no_on_the_vote_is_heard_though_the_chat_said_yes() -> None:
    assert NoConsent().rejects(make_judgement(consent=Consent(train=False, explicit=True)))


def test_a_vote_that_says_nothing_is_covered_by_the_same_persons_chat() -> None:
    assert not NoConsent().rejects(make_judgement(consent=Consent(train=False)))


def test_one_prompt_owner_who_did_not_consent_is_enough() -> None:
    answered = [
        make_answered(make_inference("r1", texts=["one"]), rater="rater-2"),
        make_answered(make_inference("r2", texts=["two"]), rater="rater-3", consent=Consent(train=False)),
    ]
    (judgement,) = make_judgements([make_vote(make_comparison())], answered)
    assert NoConsent().rejects(judgement)


def test_content_is_dropped_once_its_time_has_come() -> None:
    judgement = make_judgement(consent=Consent(train=True, retain_until=NOON))
    assert RetentionEnded(NOON).rejects(judgement)
    assert not RetentionEnded(NOON - timedelta(seconds=1)).rejects(judgement)


@pytest.mark.parametrize("finish", [None, "abort", "error"])
def test_an_answer_that_never_ended_is_unfinished(finish: str | None) -> None:
    choice = make_choice("Half an ans", finish_reason=finish)
    assert Unfinished().rejects(make_judgement(make_feedback("r1"), inference={"choices": [choice]}))


@pytest.mark.parametrize("finish", ["stop", "length", "tool_calls"])
def test_an_answer_that_was_cut_by_the_limit_was_still_shown_as_it_is(finish: str) -> None:
    choice = make_choice(finish_reason=finish)
    assert not Unfinished().rejects(make_judgement(make_feedback("r1"), inference={"choices": [choice]}))


def test_an_empty_answer_is_unfinished() -> None:
    assert Unfinished().rejects(make_judgement(make_feedback("r1"), texts=(" ",)))


def test_answers_to_different_questions_are_not_compared() -> None:
    answered = [make_answered(make_inference(r, prompt=f"Question {r}?", texts=[r])) for r in ("r1", "r2")]
    (judgement,) = make_judgements([make_vote(make_comparison())], answered)
    assert DifferentPrompts().rejects(judgement)
    assert not DifferentPrompts().rejects(make_judgement())


def test_twins_are_not_compared() -> None:
    assert IdenticalAnswers().rejects(make_judgement(texts=("Same.", " Same.")))
    assert not IdenticalAnswers().rejects(make_judgement())


def test_a_single_answer_is_no_twin_of_itself() -> None:
    assert not IdenticalAnswers().rejects(make_judgement(make_feedback("r1")))


def test_twins_within_a_ranking_do_not_spoil_the_rest_of_it() -> None:
    judgement = make_judgement(make_ranking(["r1"], ["r2"], ["r3"]), texts=("Same.", "Same.", "Other."))
    assert not IdenticalAnswers().rejects(judgement)
    assert len(judgement.strict) == 2


def test_only_the_overall_criterion_makes_rows() -> None:
    assert OtherCriterion().rejects(make_judgement(make_comparison(name="brevity")))
    assert not OtherCriterion().rejects(make_judgement(make_comparison(name="overall")))
    assert not OtherCriterion().rejects(make_judgement(make_feedback("r1")))


def test_three_stars_say_nothing() -> None:
    assert NeutralRating().rejects(make_judgement(make_feedback("r1", kind="rating", name="rating", value=3)))
    assert not NeutralRating().rejects(make_judgement(make_feedback("r1", kind="rating", name="rating", value=4)))
