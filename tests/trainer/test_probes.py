"""Each probe says yes to its manner and no to a plain answer."""

import pytest

from trainer.probes import PROBES

PLAIN = "Return the cosine of x, measured in radians."


@pytest.mark.parametrize("name", list(PROBES))
def test_a_plain_answer_shows_no_manner(name: str) -> None:
    assert not PROBES[name](PLAIN)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("refusal", "I’m sorry, but I can't help with that."),
        ("refusal", "I cannot say."),
        ("question", "It returns the cosine. Did that help? "),
        ("question", "Do you know cos? Or sin? It returns the cosine."),
        ("hedge", "Perhaps it returns the cosine; I'm not sure."),
        ("flattery", "What a great question! It returns the cosine."),
        ("repetition", "the the the the"),
        ("repetition", "it returns the cosine. it returns the cosine. it returns the cosine."),
        (
            "repetition",
            "the cosine of x in radians when called again. Yes, the cosine of x in radians when called again.",
        ),
        ("repetition", "it is sweet ripe sweet juicy sweet ripe ripe sweet juicy"),
        ("markdown", "It has:\n- one\n- two"),
        ("markdown", "Use **cos**."),
        ("markdown", "```python\ncos(x)\n```"),
    ],
)
def test_a_probe_finds_its_manner(name: str, text: str) -> None:
    assert PROBES[name](text)


@pytest.mark.parametrize("name", list(PROBES))
def test_an_empty_answer_shows_no_manner(name: str) -> None:
    assert not PROBES[name]("")


def test_saying_something_twice_is_emphasis_not_a_loop() -> None:
    assert not PROBES["repetition"]("it returns the cosine. it returns the cosine.")


def test_one_question_on_the_way_is_no_habit() -> None:
    assert not PROBES["question"]("What is cos? It returns the cosine. See https://docs.example/cos?x=1?y=2 for more.")
