"""What no table can hold is told before it is stored, with the field that is at fault."""

from datetime import datetime
from typing import Any

import pytest

from feedback.intake.fitting import unfit_body, unfit_envelope
from infra.contracts.events import Consent
from tests.support.events import make_choice, make_feedback, make_inference, make_ranking
from tests.support.feedback import make_answered, make_vote, opened_envelope

FIRST_DAY = datetime.fromisoformat("0001-01-01T00:00:00+14:00")


def test_what_a_gateway_writes_fits() -> None:
    for body in (make_feedback(), make_ranking(["r1"], ["r2", "r3"])):
        assert unfit_body(make_vote(body)) == ""
    assert unfit_body(make_answered()) == ""
    assert unfit_envelope(opened_envelope("e")) == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tenant": "x" * 101}, "tenant is longer than 100 characters"),
        ({"rater": "a\0b"}, "rater holds a NUL character"),
        ({"session_id": "é" * 1_001}, "session_id is longer than 2000 bytes"),
        ({"occurred_at": FIRST_DAY}, "occurred_at is before the first year or after the last"),
        ({"consent": Consent(retain_until=FIRST_DAY)}, "retain_until is before the first year or after the last"),
    ],
)
def test_an_envelope_that_no_table_can_hold_is_told(change: dict[str, Any], said: str) -> None:
    assert unfit_envelope(opened_envelope("e", **change)) == said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"response_id": "r" * 201}, "response_id is longer than 200 characters"),
        ({"turn": 2**31}, "turn is too large"),
        ({"ended_at": FIRST_DAY}, "ended_at is before the first year or after the last"),
        ({"choices": [make_choice(index=2**31)]}, "index is too large"),
        ({"choices": [make_choice(version="\0")]}, "version holds a NUL character"),
    ],
)
def test_an_answer_that_no_table_can_hold_is_told(change: dict[str, Any], said: str) -> None:
    assert unfit_body(make_answered(make_inference().model_copy(update=change))) == said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"response_id": "r" * 2_001}, "target is longer than 2000 bytes"),
        ({"name": "\0"}, "name holds a NUL character"),
        ({"value": "a text may be as long and as odd as it likes: it is sealed\0" * 100}, ""),
    ],
)
def test_a_vote_that_no_table_can_hold_is_told(change: dict[str, Any], said: str) -> None:
    assert unfit_body(make_vote(make_feedback(**change))) == said


def test_a_ranking_states_no_more_pairs_than_a_column_holds() -> None:
    vote = make_vote(make_ranking(*([f"r{at}"] for at in range(70_000))))
    assert vote.strict_pairs == 70_000 * 69_999 // 2
    assert unfit_body(vote) == "pairs is too large"
