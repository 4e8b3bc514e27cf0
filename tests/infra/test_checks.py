"""What is planted: two answers as if a chat had been answered, of which nothing outside tells the better one."""

import pytest
from pydantic import ValidationError

from infra.checks import Planting, make_planting
from infra.contracts.events import Inference
from infra.database.tables import CheckRow
from infra.identity import Identity
from tests.support.checks import BAD, GOOD, make_question

IDENTITY = Identity(b"secret")


def planted(**overrides: object) -> Planting:
    return make_planting(IDENTITY, "default", "assistant", make_question(**overrides), "ada")


def said(event: Inference) -> object:
    return (event.choices[0].message or {})["content"]


def test_both_answers_are_events_of_one_prompt_with_their_roles() -> None:
    events = [event for event, _ in planted().events]
    assert {event.check: said(event) for event in events} == {"better": GOOD, "worse": BAD}
    assert [event.request for event in events] == [events[0].request] * 2
    assert len({event.response_id for event in events}) == 2
    assert all(IDENTITY.owns("default", event.response_id) for event in events)


def test_what_is_planted_belongs_to_nobody_and_may_not_be_trained_on() -> None:
    headers = [header for _, header in planted(segment="de").events]
    assert {header.rater for header in headers} == {None}
    assert {(header.consent.train, header.consent.explicit) for header in headers} == {(False, True)}
    assert {header.segment for header in headers} == {"de"}
    assert not any(event.rateable for event, _ in planted().events)


def test_neither_the_order_of_the_answers_nor_of_their_ids_tells_the_better_one() -> None:
    rows = [planted().row for _ in range(400)]
    for better in ([row.better == "a" for row in rows], [better_id(row) == first_id(row) for row in rows]):
        assert 130 < sum(better) < 270  # seven standard deviations of a fair coin


def better_id(row: CheckRow) -> str:
    return row.response_a if row.better == "a" else row.response_b


def first_id(row: CheckRow) -> str:
    return min(row.response_a, row.response_b)


def test_both_answers_came_at_the_same_moment_and_look_alike_but_for_their_words() -> None:
    (one, its), (other, others) = planted().events
    same = {"response_id": "", "choices": [], "check": None}
    assert one.model_copy(update=same) == other.model_copy(update=same)
    assert its == others
    assert one.choices[0].model_copy(update={"message": None}) == other.choices[0].model_copy(update={"message": None})


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": []},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"better": " \n"},
        {"worse": f" {GOOD.replace(' ', '  ')}"},
        {"worse": "nul \0"},
        {"modell": "assistant"},
    ],
)
def test_a_question_that_cannot_be_judged_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        make_question(**wrong)


def test_the_row_holds_what_a_product_shows() -> None:
    row = planted().row
    better, worse = ("a", "b") if row.better == "a" else ("b", "a")
    assert (row.question[better], row.question[worse]) == (GOOD, BAD)
    assert row.question["messages"] == [{"role": "user", "content": "What does math.cos do?"}]
