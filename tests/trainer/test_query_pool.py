"""Candidates are every two different whole answers to one prompt, each with the version that wrote it."""

import numpy as np

from tests.support.occasion import OCCASION
from trainer.data import Prompt
from trainer.queries import Owner, make_queries
from trainer.query_pool import pool
from trainer.sampling import Sampled

PROMPTS = [Prompt([{"role": "user", "content": f"Question {at}?"}], prompt_id=f"p{at}") for at in range(2)]


def make_sampled(text: str, *, finish_reason: str = "stop") -> Sampled:
    return Sampled([1, 2], [ord(letter) for letter in text], [-1.0] * len(text), finish_reason, text)


def test_two_versions_with_two_samples_each_make_six_pairs_of_a_prompt() -> None:
    made = pool(
        PROMPTS[:1], {"v2": [[make_sampled("a"), make_sampled("b")]], "v1": [[make_sampled("c"), make_sampled("d")]]}
    )
    assert len(made.candidates) == 6
    assert {(one.a.version, one.b.version) for one in made.candidates} == {("v2", "v2"), ("v2", "v1"), ("v1", "v1")}
    assert [list(row.answer) for row in made.rows] == [[97], [98], [99], [100]]


def test_answers_to_different_prompts_are_never_put_side_by_side() -> None:
    made = pool(
        PROMPTS, {"v2": [[make_sampled("a")], [make_sampled("b")]], "v1": [[make_sampled("c")], [make_sampled("d")]]}
    )
    assert [(one.prompt.prompt_id, one.a.content, one.b.content) for one in made.candidates] == [
        ("p0", "a", "c"),
        ("p1", "b", "d"),
    ]


def test_twins_and_answers_that_were_cut_make_no_pair() -> None:
    cut = make_sampled("ab", finish_reason="length")
    made = pool(PROMPTS[:1], {"v2": [[make_sampled("a"), cut]], "v1": [[make_sampled("a")]]})
    assert made.candidates == []
    assert made.margins(np.zeros((2, 3))).shape == (0, 3)


def test_margins_are_differences_of_each_members_scores_and_choose_what_they_dispute() -> None:
    made = pool(
        PROMPTS, {"v2": [[make_sampled("a")], [make_sampled("b")]], "v1": [[make_sampled("c")], [make_sampled("d")]]}
    )
    scores_RM = np.array([[1.0, 1.0], [0.0, 0.5], [3.0, 0.0], [0.0, 3.0]])  # a, c; b, d
    assert made.margins(scores_RM).tolist() == [[1.0, 0.5], [3.0, -3.0]]
    known = {prompt.prompt_id: Owner() for prompt in PROMPTS}
    asked = make_queries(made.candidates, made.margins(scores_RM), known, OCCASION, most=1)
    assert [one.prompt_id for one in asked.queries] == ["p1"]


def test_nothing_to_ask_makes_no_questions() -> None:
    made = pool([], {"v2": []})
    assert make_queries(made.candidates, made.margins(np.zeros((0, 2))), {}, OCCASION, most=3).queries == []
