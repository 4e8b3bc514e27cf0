"""What a judge may read of two answers to one request, and which of them its scores prefer."""

from datetime import timedelta
from typing import Any

import pytest

from feedback.shadows.comparison import Comparison, compare, wins_of
from infra.contracts.events import Consent, InferenceStatus
from tests.support.events import NOON, make_choice, make_inference
from tests.support.feedback import make_answered

ALLOWED = Consent(train=True)


def made(
    *, ours: dict[str, Any] | None = None, theirs: dict[str, Any] | None = None, **header: Any
) -> Comparison | None:
    """Of r1, and of r2 in its shadow."""
    shown = make_answered(make_inference("r1", **{"texts": ["theirs"], **(theirs or {})}), **header)
    shadow = make_answered(make_inference("r2", **{"texts": ["ours"], "shadow_of": "r1", **(ours or {})}), **header)
    return compare(shown, shadow, NOON)


def texts(*wanted: str) -> Comparison:
    """Shown and mirrored ones by turns."""
    pairs = zip(wanted[::2], wanted[1::2], strict=True)
    return Comparison("r1", "r2", ({"role": "user", "content": "Hello"},), tuple(pairs))


def test_both_answers_are_read_after_the_whole_conversation() -> None:
    messages = [
        {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": [{"type": "text", "text": "What does math.cos do?"}]},
    ]  # fmt: skip
    found = made(ours={"request": {"messages": messages}}, theirs={"request": {"messages": messages}})
    assert found is not None
    assert (found.shown, found.mirrored) == ("r1", "r2")
    prompt = [*messages[:2], {"role": "user", "content": "What does math.cos do?"}]
    assert list(found.conversations()) == [
        {"prompt": prompt, "completion": "theirs"}, {"prompt": prompt, "completion": "ours"},
    ]  # fmt: skip


@pytest.mark.parametrize(("scores", "win"), [((0.1, 0.2), 1.0), ((0.2, 0.1), 0.0), ((0.2, 0.2), 0.5)])
def test_the_higher_score_wins_and_a_tie_is_a_half(scores: tuple[float, float], win: float) -> None:
    assert texts("theirs", "ours").win(scores) == win


def test_the_same_text_is_a_tie_whatever_the_last_digit_of_its_scores() -> None:
    assert texts("alike", "alike").win((0.2, 0.1999999)) == 0.5


def test_of_several_choices_each_is_compared_with_the_one_in_its_place() -> None:
    found = made(ours={"texts": ["a", "b", "c"]}, theirs={"texts": ["d", "e"]})
    assert found is not None
    assert found.texts == (("d", "a"), ("e", "b"))
    assert found.win([1, 2, 2, 1]) == 0.5


def test_scores_find_the_answers_that_they_are_of() -> None:
    one, other = texts("a", "b"), Comparison("r3", "r4", ({"role": "user", "content": "?"},), (("c", "d"), ("e", "f")))
    assert wins_of([one, other], [0, 1, 1, 0, 1, 1]) == {"r2": 1.0, "r4": 0.25}


@pytest.mark.parametrize("side", ["ours", "theirs"])
@pytest.mark.parametrize(
    "body",
    [
        {"stored": False},
        {"status": InferenceStatus.FAILED},
        {"texts": [" "]},
        {"choices": []},
        {"choices": [make_choice(message={"role": "assistant", "tool_calls": [{"function": {"name": "cos"}}]})]},
        {"choices": [make_choice(message={"role": "assistant", "content": [{"type": "image_url"}]})]},
    ],
    ids=["not stored", "failed", "empty", "without a choice", "a tool's", "an image"],
)
def test_what_a_judge_of_texts_cannot_read_is_not_compared(side: str, body: dict[str, Any]) -> None:
    assert made(ours=body if side == "ours" else {}, theirs=body if side == "theirs" else {}) is None


@pytest.mark.parametrize(
    "request_body",
    [{"messages": []}, {"messages": [{"role": "user", "content": "Hello"}], "tools": [{"type": "function"}]}],
    ids=["no prompt", "tools"],
)
def test_a_request_that_a_judge_cannot_be_given_is_not_compared(request_body: dict[str, Any]) -> None:
    assert made(ours={"request": request_body}, theirs={"request": request_body}) is None


@pytest.mark.parametrize(
    ("consent", "allowed"),
    [
        (ALLOWED, True),
        (Consent(train=False), False),
        (Consent(train=False, explicit=True), False),
        (Consent(train=True, retain_until=NOON + timedelta(seconds=1)), True),
        (Consent(train=True, retain_until=NOON), False),
    ],
)
def test_only_what_may_be_trained_on_and_kept_is_read(consent: Consent, allowed: bool) -> None:
    assert (made(consent=consent) is not None) is allowed
