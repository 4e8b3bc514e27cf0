"""Filters that need to see all judgements, and the order of the chain."""

import random
from collections.abc import Sequence

from feedback.filters import chain
from feedback.filters.caps import PromptCap, RaterCap
from feedback.filters.duplicates import Duplicates
from feedback.filters.self_contradiction import SelfContradiction
from feedback.judgement import Judgement
from infra.contracts.events import Consent, Feedback
from tests.support.events import event_id, make_comparison, make_feedback, make_inference, make_ranking, moment
from tests.support.feedback import AS_OF, make_answered, make_judgements, make_settings, make_vote

TEXTS = {"good": "A good answer.", "fine": "A fine answer.", "bad": "A bad answer."}


def judged(*cast: tuple[Feedback, str], **envelope: object) -> list[Judgement]:
    """Votes by name on responses that are named like their texts: good-1 and good-2 have the same one."""
    names = {item.response_id for body, _ in cast for item in body.items} | {b.response_id for b, _ in cast}
    answered = [make_answered(make_inference(name, texts=[TEXTS[name.split("-")[0]]])) for name in names if name]
    votes = [make_vote(body, name, occurred_at=moment(at), **envelope) for at, (body, name) in enumerate(cast)]
    return make_judgements(votes, answered)


def ids(*names: str) -> set[str]:
    return {event_id(name).hex for name in names}


def many(count: int, rater: str = "rater-1", prompt: str = "Question {}?") -> list[Judgement]:
    answered = [
        make_answered(make_inference(f"{side}{at}", prompt=prompt.format(at), texts=[f"{side} {at}"]))
        for at in range(count)
        for side in "ab"
    ]
    votes = [make_vote(make_comparison(f"a{at}", f"b{at}"), f"{rater} {at}", rater=rater) for at in range(count)]
    return make_judgements(votes, answered)


def kept(judgements: Sequence[Judgement], out: set[str]) -> int:
    return len([judgement for judgement in judgements if judgement.event_id not in out])


def test_saying_the_same_of_the_same_texts_again_counts_once() -> None:
    judgements = judged((make_comparison("good-1", "bad-1"), "first"), (make_comparison("good-2", "bad-2"), "again"))
    assert Duplicates().rejected(judgements) == Duplicates().rejected(judgements[::-1]) == ids("again")


def test_the_same_choice_shown_the_other_way_round_is_a_duplicate() -> None:
    judgements = judged(
        (make_comparison("good-1", "bad-1", "a"), "first"), (make_comparison("bad-2", "good-2", "b"), "again")
    )
    assert Duplicates().rejected(judgements) == ids("again")


def test_two_raters_who_agree_are_no_duplicates() -> None:
    one, other = (judged((make_comparison("good-1", "bad-1"), name), rater=name) for name in ("rater-1", "rater-2"))
    assert Duplicates().rejected([*one, *other]) == set()


def test_a_thumb_and_a_comparison_are_no_duplicates() -> None:
    assert not Duplicates().rejected(
        judged((make_comparison("good-1", "bad-1"), "one"), (make_feedback("good-1"), "two"))
    )


def test_who_says_both_has_said_nothing() -> None:
    judgements = judged(
        (make_comparison("good-1", "bad-1", "a"), "this"),
        (make_comparison("good-2", "bad-2", "b"), "that"),
        (make_comparison("good-3", "fine-3", "a"), "else"),
    )
    assert SelfContradiction().rejected(judgements) == ids("this", "that")


def test_a_thumb_up_and_a_thumb_down_on_the_same_text_contradict_each_other() -> None:
    judgements = judged((make_feedback("good-1"), "up"), (make_feedback("good-2", value=False), "down"))
    assert SelfContradiction().rejected(judgements) == ids("up", "down")


def test_a_ranking_may_contradict_a_comparison() -> None:
    judgements = judged(
        (make_ranking(["good-1"], ["fine-1"], ["bad-1"]), "ranking"), (make_comparison("bad-2", "good-2"), "choice")
    )
    assert SelfContradiction().rejected(judgements) == ids("ranking", "choice")


def test_a_tie_contradicts_nothing() -> None:
    judgements = judged(
        (make_comparison("good-1", "bad-1", "tie"), "tie"), (make_comparison("good-2", "bad-2", "a"), "choice")
    )
    assert SelfContradiction().rejected(judgements) == set()


def test_two_people_may_disagree() -> None:
    one = judged((make_comparison("good-1", "bad-1", "a"), "one"), rater="rater-1")
    other = judged((make_comparison("good-2", "bad-2", "b"), "other"), rater="rater-2")
    assert SelfContradiction().rejected([*one, *other]) == set()


def test_a_rater_gives_no_more_rows_than_the_cap() -> None:
    judgements = [*many(10, "rater-1"), *many(3, "rater-2")]
    out = RaterCap(4).rejected(judgements)
    assert kept(judgements, out) == 4 + 3


def test_the_same_votes_stay_in_whatever_order_they_come() -> None:
    judgements = many(12)
    shuffled = random.Random(1).sample(judgements, len(judgements))
    assert RaterCap(5).rejected(judgements) == RaterCap(5).rejected(shuffled)


def test_a_ranking_costs_as_many_rows_as_it_makes() -> None:
    judgements = judged((make_ranking(["good-1"], ["fine-1"], ["bad-1"]), "ranking"))
    assert RaterCap(2).rejected(judgements) == ids("ranking")
    assert RaterCap(3).rejected(judgements) == set()


def test_a_prompt_gives_no_more_rows_than_the_cap() -> None:
    judgements = [*many(6, "rater-1", "One question?"), *many(6, "rater-2", "One question?")]
    assert kept(judgements, PromptCap(5).rejected(judgements)) == 5


def test_the_chain_counts_each_judgement_under_the_first_reason_that_takes_it() -> None:
    consenting = many(3)
    silent = judged(
        (make_comparison("good-1", "bad-1", latency_ms=1.0), "no"), rater="rater-9", consent=Consent(train=False)
    )
    left, dropped = chain.apply(chain.make_chain(make_settings(rater_cap=2), AS_OF), [*consenting, *silent])
    assert len(left) == 2
    assert dropped == {"no_consent": 1, "rater_cap": 1}
