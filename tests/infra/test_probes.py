"""A refusal is told by its words, however they are written; a plain answer is none."""

import pytest

from infra.probes import refuses


@pytest.mark.parametrize(
    "text", ["I’m sorry, but I can't help with that.", "I CANNOT say.", "As an AI, no.", "We are unable to help."]
)
def test_words_of_refusal_are_found_in_any_case_and_with_any_apostrophe(text: str) -> None:
    assert refuses(text)


@pytest.mark.parametrize("text", ["", "Return the cosine of x.", "The file cannot be read.", "Sorry: states."])
def test_an_answer_that_only_speaks_of_such_things_refuses_nothing(text: str) -> None:
    assert not refuses(text)
