"""Check questions: what an operator plants."""

from typing import Any

from infra.checks import Question

GOOD, BAD = "math.cos returns the cosine of an angle in radians.", "It makes tea for two people, mostly on Sundays."


def make_question(**overrides: Any) -> Question:
    """A prompt of one turn with an answer and a silly one."""
    return Question.model_validate(question_body(**overrides))


def question_body(prompt: str = "What does math.cos do?", **overrides: Any) -> dict[str, Any]:
    """As it is sent."""
    return {"messages": [{"role": "user", "content": prompt}], "better": GOOD, "worse": BAD, **overrides}
