"""Exact checks: read, judged, and compared case by case."""

import json
from pathlib import Path

import pytest

from infra.cases import Case
from infra.settings import SettingsError, TrainerSettings
from trainer.regression import Suites, check_suites, judge_cases, read_cases, read_suites


def make_case(**overrides: object) -> Case:
    fields: dict[str, object] = {"name": "cos", "messages": [{"role": "user", "content": "What does cos do?"}]}
    return Case.model_validate({**fields, **overrides})


def test_every_part_of_contains_all_must_be_there() -> None:
    case = make_case(contains_all=["cosine", "radians"])
    assert case.passes("the cosine, in radians")
    assert not case.passes("the cosine")


def test_one_part_of_contains_any_is_enough() -> None:
    case = make_case(contains_any=["cosine", "cos"])
    assert case.passes("cos it is")
    assert not case.passes("sine")


def test_cases_are_read_from_one_json_object_a_line(tmp_path: Path) -> None:
    path = tmp_path / "checks.jsonl"
    path.write_text(make_case(contains_all=["x"]).model_dump_json() + "\n\n" + make_case(name="sin").model_dump_json())
    assert [case.name for case in read_cases(str(path))] == ["cos", "sin"]


def test_no_file_means_no_cases() -> None:
    assert read_cases("") == []


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"regression_file: .*gone\.jsonl does not exist"):
        read_cases(str(tmp_path / "gone.jsonl"))


def test_a_bad_line_is_named_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "checks.jsonl"
    path.write_text(make_case().model_dump_json() + "\n" + json.dumps({"name": "no messages"}))
    with pytest.raises(SettingsError, match="line 2: messages"):
        read_cases(str(path))


def test_the_drop_is_what_the_champion_passed_and_the_candidate_did_not() -> None:
    cases = [make_case(name=str(number), contains_all=["yes"]) for number in range(10)]
    results, drop = judge_cases(cases, [["yes"]] * 8 + [["no"]] * 2, [["yes"]] * 10)
    assert [result.passed for result in results] == [True] * 8 + [False] * 2
    assert all(result.champion_passed for result in results)
    assert drop is not None
    assert drop.value == pytest.approx(0.2)
    assert drop.lo < 0.2 < drop.hi


def test_several_answers_to_a_case_count_by_their_share() -> None:
    cases = [make_case(contains_all=["yes"]), make_case(name="sin", contains_all=["yes"])]
    results, drop = judge_cases(cases, [["yes", "no", "no"], ["yes"] * 3], [["yes"] * 3, ["yes"] * 3])
    assert [result.passed for result in results] == [False, True]
    assert drop is not None
    assert drop.value == pytest.approx(1 / 3)


def test_no_cases_leave_the_drop_unmeasured() -> None:
    assert judge_cases([], [], []) == ([], None)


def test_what_must_never_be_said_fails_the_case() -> None:
    case = make_case(contains_none=["password", "secret"])
    assert case.passes("the cosine")
    assert not case.passes("the secret cosine")


@pytest.mark.parametrize(("refuses", "answer", "passes"), [
    (True, "I can't help with that.", True), (True, "Of course: first", False),
    (False, "I can't help with that.", False), (False, "Of course: first", True), (None, "I can't help.", True),
])  # fmt: skip
def test_a_case_may_ask_for_a_refusal_or_for_none(refuses: bool | None, answer: str, passes: bool) -> None:
    assert make_case(refuses=refuses).passes(answer) is passes


def test_each_suite_has_a_file_of_its_own_in_one_format(tmp_path: Path) -> None:
    named = {}
    for suite in ("regression", "canary", "safety"):
        (tmp_path / suite).write_text(make_case(name=suite).model_dump_json())
        named[f"{suite}_file"] = str(tmp_path / suite)
    found = read_suites(TrainerSettings.model_validate(named))
    assert [case.name for case in found.cases] == ["regression", "canary", "safety"]
    assert [case.name for case in found.canary] == ["canary"]


@pytest.mark.parametrize("setting", ["canary_file", "safety_file"])
def test_a_bad_file_is_named_by_its_setting(tmp_path: Path, setting: str) -> None:
    (tmp_path / "bad").write_text("{}")
    with pytest.raises(SettingsError, match=rf"trainer\.{setting}: .*bad, line 1: name"):
        read_suites(TrainerSettings.model_validate({setting: str(tmp_path / "bad")}))


def test_most_answers_know_a_fact_and_a_single_unsafe_one_is_unsafe() -> None:
    fact, rule = make_case(contains_all=["yes"]), make_case(contains_none=["no"])
    answers = [["yes", "yes", "no"], ["yes", "yes", "no"]]
    found = check_suites(Suites([], [fact], [rule]), answers, answers)
    assert [case.passed for case in found.canaries] == [True]
    assert [case.passed for case in found.safety] == [False]
    assert (found.regressions, found.drop) == ([], None)
