"""Rows as TRL takes them, and the provenance beside them."""

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from feedback.datasets.pairs import make_prompts, make_rows
from feedback.datasets.rows import SIDES, Row, Table, schema
from feedback.datasets.split import rater_group
from feedback.judgements.judgement import Judgement
from infra.contracts.events import Feedback
from tests.support.events import (
    event_id,
    make_choice,
    make_comparison,
    make_feedback,
    make_inference,
    make_ranking,
    moment,
)
from tests.support.feedback import make_answered, make_exchanges, make_judgement, make_judgements, make_vote

USER = {"role": "user", "content": "What does math.cos do?"}


def rows(table: Table, *judgements: Judgement) -> list[Row]:
    return [row for row in make_rows(judgements) if row.table is table]


def values(table: Table, *judgements: Judgement) -> dict[str, Any]:
    (row,) = rows(table, *judgements)
    return dict(row.values)


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def thumbs(*cast: tuple[str, bool], rater: str | None = "rater-1", prompt: str = "What?") -> list[Judgement]:
    """(text, up or down) of one rater on answers to one prompt."""
    answered = [
        make_answered(make_inference(f"r{at}", prompt=prompt, texts=[text])) for at, (text, _) in enumerate(cast)
    ]
    votes = [
        make_vote(make_feedback(f"r{at}", value=up), f"{rater} thumb {at}", rater=rater, occurred_at=moment(at))
        for at, (_, up) in enumerate(cast)
    ]
    return make_judgements(votes, answered)


def test_a_choice_is_a_preference_in_trls_conversational_format() -> None:
    row = values(Table.PREFERENCE, make_judgement())
    assert row["prompt"] == [USER]
    assert row["chosen"] == said("Good answer.")
    assert row["rejected"] == said("Bad answer.")


def test_a_row_says_who_judged_what_and_whose_words_they_were() -> None:
    body = make_comparison(choice="b", shown_first="a", latency_ms=20_000.0)
    answered = [
        make_answered(make_inference(name, choices=[make_choice(name, version=version)]))
        for name, version in (("r1", "base"), ("r2", "v1"))
    ]
    row = values(Table.PREFERENCE, *make_judgements([make_vote(body, segment="eu")], answered))
    assert row["rater"] == "rater-1"
    assert row["rater_group"] == rater_group("rater-1")
    assert row["segment"] == "eu"
    assert row["source"] == "human"
    assert row["versions"] == {"chosen": "v1", "rejected": "base"}
    assert row["behaviour_logprob"] == {"chosen": -0.875, "rejected": -0.875}
    assert row["finish_reason"] == {"chosen": "stop", "rejected": "stop"}
    assert row["shown_first"] == "rejected"
    assert row["latency_ms"] == 20_000.0
    assert row["weight"] == 1.0
    assert set(row["source_event_ids"]) == {event_id(n).hex for n in ("vote", "inference r1", "inference r2")}


def test_every_table_has_the_columns_of_its_schema() -> None:
    judgements = [
        make_judgement(make_comparison(strength=2.0), name="choice"),
        make_judgement(make_comparison(choice="both_bad"), name="bad"),
        make_judgement(make_feedback("r1", kind="correction", name="correction", value="Better."), name="fix"),
    ]
    for row in [*make_rows(judgements), *make_prompts(make_exchanges(make_inference()))]:
        assert set(row.values) == set(schema(row.table, margin=row.has_margin).names)


def test_a_margin_is_there_only_where_a_strength_was_given() -> None:
    assert values(Table.PREFERENCE, make_judgement(make_comparison(strength=2.0)))["margin"] == 2.0
    assert "margin" not in values(Table.PREFERENCE, make_judgement())


def test_a_tie_is_no_preference() -> None:
    judgement = make_judgement(make_comparison(choice="tie"))
    assert {row.table for row in make_rows([judgement])} == {Table.TIES}
    row = values(Table.TIES, judgement)
    assert (row["completion_a"], row["completion_b"]) == (said("Good answer."), said("Bad answer."))
    assert row["kind"] == "tie"


def test_both_bad_is_a_tie_and_two_bad_answers() -> None:
    judgement = make_judgement(make_comparison(choice="both_bad"))
    assert values(Table.TIES, judgement)["kind"] == "both_bad"
    bad = rows(Table.UNPAIRED, judgement)
    assert [row.values["label"] for row in bad] == [False, False]
    assert {row.values["completion"][0]["content"] for row in bad} == {"Good answer.", "Bad answer."}


def test_a_ranking_weighs_as_much_as_the_comparisons_it_takes() -> None:
    found = rows(Table.PREFERENCE, make_judgement(make_ranking(["r3"], ["r1"], ["r2"]), texts=("one", "two", "three")))
    assert {(r.values["chosen"][0]["content"], r.values["rejected"][0]["content"]) for r in found} == {
        ("three", "one"),
        ("three", "two"),
        ("one", "two"),
    }
    assert sum(row.values["weight"] for row in found) == pytest.approx(2.0)


def test_tied_groups_of_a_ranking_make_no_preference_among_themselves() -> None:
    found = rows(Table.PREFERENCE, make_judgement(make_ranking(["r1", "r2"], ["r3"]), texts=("one", "two", "three")))
    assert {row.values["rejected"][0]["content"] for row in found} == {"three"}


@pytest.mark.parametrize(
    ("body", "label"),
    [
        (make_feedback("r1", value=True), True),
        (make_feedback("r1", value=False), False),
        (make_feedback("r1", kind="rating", name="rating", value=5), True),
        (make_feedback("r1", kind="rating", name="rating", value=1), False),
    ],
)
def test_thumbs_and_stars_are_unpaired_labels(body: Feedback, label: bool) -> None:
    row = values(Table.UNPAIRED, make_judgement(body))
    assert (row["completion"], row["label"]) == (said("Good answer."), label)


def test_thumbs_of_one_rater_on_one_prompt_are_paired() -> None:
    row = values(Table.PREFERENCE, *thumbs(("good", True), ("bad", False)))
    assert (row["chosen"], row["rejected"]) == (said("good"), said("bad"))
    assert row["shown_first"] is None
    assert row["latency_ms"] is None
    assert len(row["source_event_ids"]) == 4


def test_thumbs_of_two_raters_or_on_two_prompts_are_not_paired() -> None:
    assert not rows(Table.PREFERENCE, *thumbs(("good", True)), *thumbs(("bad", False), rater="rater-2"))
    assert not rows(Table.PREFERENCE, *thumbs(("good", True)), *thumbs(("bad", False), prompt="Why?"))


def test_thumbs_of_nobody_are_not_paired() -> None:
    assert not rows(Table.PREFERENCE, *thumbs(("good", True), ("bad", False), rater=None))


def test_paired_thumbs_weigh_no_more_than_the_rarer_kind() -> None:
    found = rows(Table.PREFERENCE, *thumbs(("good", True), ("bad", False), ("worse", False), ("worst", False)))
    assert len(found) == 3
    assert sum(row.values["weight"] for row in found) == pytest.approx(1.0)


def test_a_correction_is_a_demonstration_and_better_than_the_answer() -> None:
    judgement = make_judgement(make_feedback("r1", kind="correction", name="correction", value="Best answer."))
    assert values(Table.DEMONSTRATIONS, judgement)["completion"] == said("Best answer.")
    row = values(Table.PREFERENCE, judgement)
    assert (row["chosen"], row["rejected"]) == (said("Best answer."), said("Good answer."))
    assert row["source"] == "correction"
    assert row["versions"] == {"chosen": None, "rejected": "base"}
    assert row["behaviour_logprob"]["chosen"] is None


def test_a_correction_that_changes_nothing_is_a_demonstration_only() -> None:
    judgement = make_judgement(make_feedback("r1", kind="correction", name="correction", value="Good  answer."))
    assert {row.table for row in make_rows([judgement])} == {Table.DEMONSTRATIONS}


def test_an_empty_correction_makes_no_row() -> None:
    assert not make_rows([make_judgement(make_feedback("r1", kind="correction", name="correction", value="  "))])


def test_the_prompt_is_the_whole_conversation_with_its_tools() -> None:
    tool = {"type": "function", "function": {"name": "look_up"}}
    call = {"id": "1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Look it up."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "Found.", "tool_call_id": "1"},
    ]
    row = values(Table.PREFERENCE, make_judgement(inference={"request": {"messages": messages, "tools": [tool]}}))
    assert [message["role"] for message in row["prompt"]] == ["system", "user", "assistant", "tool"]
    assert row["prompt"][2]["tool_calls"] == [call]
    assert row["tools"] == '[{"function": {"name": "look_up"}, "type": "function"}]'


def test_rows_and_their_ids_are_the_same_in_any_order() -> None:
    judgements = [*thumbs(("good", True), ("bad", False), ("worse", False)), make_judgement()]
    first = make_rows(judgements)
    for order in itertools.permutations(judgements):
        assert make_rows(order) == first
    assert len({row.row_id for row in first}) == len(first)


def test_each_prompt_appears_once_as_it_first_was() -> None:
    early, late = make_inference("r1", prompt="What  is it?"), make_inference("r2", prompt="What is it?")
    exchanges = [*make_exchanges(late, occurred_at=moment(9)), *make_exchanges(early, occurred_at=moment(1))]
    (row,) = make_prompts(exchanges)
    assert row.values["prompt"][0]["content"] == "What  is it?"
    assert row.values["prompt_id"] == exchanges[0].prompt_id


@pytest.mark.parametrize("table", list(Table))
def test_sides_are_columns_of_messages(table: Table) -> None:
    columns: Sequence[str] = schema(table).names
    assert columns[0] == "prompt"
    assert set(SIDES[table]) <= set(columns)
