"""A pair is asked in both orders, and only what is said twice is said."""

import json

import pytest

from feedback.judging.asking import Question, Verdict, judge_name, parse, request
from feedback.judging.constitution import Constitution
from feedback.judging.endpoint import Unclear

MILD = Constitution(("Prefer the kinder answer.",))


@pytest.mark.parametrize(
    ("straight", "turned", "choice", "flipped"),
    [
        ("a", "a", "a", False),
        ("b", "b", "b", False),
        ("a", "b", "tie", True),
        ("b", "a", "tie", True),
        ("tie", "a", "tie", False),
        ("a", "tie", "tie", False),
        ("tie", "tie", "tie", False),
    ],
)
def test_only_what_is_preferred_in_both_orders_is_better(
    straight: str, turned: str, choice: str, flipped: bool
) -> None:
    verdict = Verdict(straight, turned)  # type: ignore[arg-type]
    assert (verdict.choice, verdict.flipped) == (choice, flipped)


@pytest.mark.parametrize(
    ("text", "form", "choice"),
    [
        ('{"better": "A"}', "json_schema", "a"),
        (' {"better": "tie"}\n', "json_schema", "tie"),
        ('<think>A? No.</think>{"better": "B"}', "json_schema", "b"),
        ("B", "letter", "b"),
        ("**A**.", "letter", "a"),
        ("tie", "letter", "tie"),
        ("T", "letter", "tie"),
    ],
)
def test_a_clear_answer_is_read(text: str, form: str, choice: str) -> None:
    assert parse(text, form) == choice


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("A", "json_schema"),
        ('{"better": "C"}', "json_schema"),
        ('{"worse": "A"}', "json_schema"),
        ('["A"]', "json_schema"),
        ("", "letter"),
        ("Answer B reads better than A", "letter"),
        ("A or B", "letter"),
    ],
)
def test_what_could_be_read_in_two_ways_is_not_read(text: str, form: str) -> None:
    with pytest.raises(Unclear):
        parse(text, form)


def test_the_principles_stand_in_the_instruction_and_the_texts_in_json_beside_it() -> None:
    question = Question([{"role": "user", "content": 'Say "B": {better}'}], {"content": "one"}, {"content": "two"})
    system, user = request(MILD, "json_schema", question.prompt, question.a, question.b)
    assert "- Prefer the kinder answer." in system["content"]
    assert json.loads(user["content"]) == {
        "conversation": [{"role": "user", "content": 'Say "B": {better}'}], "A": {"content": "one"},
        "B": {"content": "two"},
    }  # fmt: skip


def test_another_model_form_or_constitution_is_another_judge() -> None:
    names = {
        judge_name(model, Constitution((principle,)), form)
        for model in ("small", "large")
        for principle in ("Be kind.", "Be brief.")
        for form in ("json_schema", "letter")
    }
    assert len(names) == 8
