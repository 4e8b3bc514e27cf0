"""What is held out stays held out, and nothing of it leaks."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.pairs import make_prompts, make_rows
from feedback.rows import Row, Table
from feedback.split import (
    GATE,
    PROMPT_SALT,
    RATER_SALT,
    REPORT,
    TEST,
    TRAIN,
    divide,
    fraction,
    prompt_split,
    rater_group,
    rater_split,
)
from tests.support.events import make_inference
from tests.support.feedback import make_exchanges, make_judgement, make_settings

PREFERENCE = Table.PREFERENCE


def units(split: str, count: int = 1, share: float = 0.2) -> list[str]:
    """Raters that are on this side."""
    return [unit for n in range(1000) if rater_split(unit := f"rater-{n}", share) == split][:count]


def cluster(split: str) -> str:
    """A prompt of this split."""
    return next(p for n in range(1000) if prompt_split(p := f"prompt-{n}", 0.2, 0.1) == split)


def make_row(unit: str, prompt: str = "prompt", texts: tuple[str, ...] = ("one", "two"), name: str = "vote") -> Row:
    (row,) = make_rows([make_judgement(name=name)])
    return replace(row, unit=unit, prompt_id=prompt, digests=frozenset(texts), row_id=f"{row.row_id} {unit} {prompt}")


@given(st.text(min_size=1), st.floats(0.01, 0.98), st.floats(0.01, 0.98))
def test_a_larger_share_only_adds_raters_to_the_test_side(unit: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert rater_split(unit, small) == TRAIN or rater_split(unit, large) == TEST


@given(st.text())
def test_fractions_lie_between_nought_and_one(unit: str) -> None:
    assert 0 <= fraction("salt", unit) < 1


def test_the_shares_are_about_what_was_asked_for() -> None:
    sides = [prompt_split(f"prompt-{n}", 0.2, 0.1) for n in range(5000)]
    assert sides.count(GATE) / 5000 == pytest.approx(0.2, abs=0.02)
    assert sides.count(REPORT) / 5000 == pytest.approx(0.1, abs=0.02)


def test_the_salted_hashes_never_change() -> None:
    assert rater_split("rater-1", 0.2) == "train"
    assert fraction(RATER_SALT, "rater-1") == pytest.approx(0.457139, abs=1e-6)
    assert fraction(PROMPT_SALT, "prompt-1") == pytest.approx(0.548217, abs=1e-6)
    assert rater_group("rater-1") == "g1"


def test_rows_go_where_their_rater_is() -> None:
    (test,), (train,) = units(TEST), units(TRAIN)
    divided, dropped = divide(
        [make_row(train, "p1", ("a", "b")), make_row(test, "p2", ("c", "d"))], make_settings(test_share=0.2)
    )
    assert len(divided[PREFERENCE, TRAIN]) == len(divided[PREFERENCE, TEST]) == 1
    assert not dropped


def test_a_test_row_whose_prompt_is_trained_on_is_dropped_and_counted() -> None:
    (test,), (train,) = units(TEST), units(TRAIN)
    rows = [make_row(train, "same", ("a", "b")), make_row(test, "same", ("c", "d"))]
    divided, dropped = divide(rows, make_settings(test_share=0.2))
    assert not divided[PREFERENCE, TEST]
    assert dropped == {"leaks_from_train": 1}


def test_a_test_row_whose_answer_is_trained_on_is_dropped_and_counted() -> None:
    (test,), (train,) = units(TEST), units(TRAIN)
    rows = [make_row(train, "p1", ("a", "b")), make_row(test, "p2", ("b", "c"))]
    _, dropped = divide(rows, make_settings(test_share=0.2))
    assert dropped == {"leaks_from_train": 1}


def test_no_policy_learns_from_a_gate_prompt_but_held_out_raters_may_judge_on_it() -> None:
    (test,), (train,) = units(TEST), units(TRAIN)
    rows = [make_row(train, cluster(GATE), ("a", "b")), make_row(test, cluster(GATE), ("c", "d"))]
    divided, dropped = divide(rows, make_settings(test_share=0.2, gate_share=0.2, report_share=0.1))
    assert (PREFERENCE, TRAIN) not in divided
    assert len(divided[PREFERENCE, TEST]) == 1
    assert dropped == {"held_out_prompt": 1}


def test_nothing_but_reports_ever_sees_a_report_prompt() -> None:
    (test,), (train,) = units(TEST), units(TRAIN)
    rows = [make_row(unit, cluster(REPORT), (unit,)) for unit in (test, train)]
    divided, dropped = divide(rows, make_settings(test_share=0.2, gate_share=0.2, report_share=0.1))
    assert not divided
    assert dropped == {"held_out_prompt": 2}


def test_prompts_are_split_by_cluster_whoever_asked_them() -> None:
    rows = make_prompts(make_exchanges(*(make_inference(f"r{n}", prompt=f"Question {n}?") for n in range(50))))
    divided, _ = divide(rows, make_settings(test_share=0.2, gate_share=0.2, report_share=0.1))
    assert {split for _, split in divided} == {TRAIN, GATE, REPORT}
    assert sum(len(found) for found in divided.values()) == 50


def test_rater_groups_are_few_and_all_used() -> None:
    assert len({rater_group(f"rater-{n}") for n in range(200)}) == 8
