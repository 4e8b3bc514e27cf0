"""The benchmark's users judge what they read and nothing else, and its figures count from the right moments."""

import random
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.contracts.rollouts import Look
from serving.adapters import read_base, validate
from serving.errors import Refused
from tests.bench import aborts
from tests.bench.abort_crowd import Reply
from tests.bench.abort_crowd import read as read_stream
from tests.bench.abort_raters import ASKED, Person, Question, Topic, faults, liking, prefers, recruit, think_of
from tests.bench.abort_versions import BETTER, CANDIDATES, plant
from tests.bench.aborts import STEPS, Course, Row, is_sound
from tests.bench.planted_regressions import BROKEN, STOPPED_BY
from tests.goldbed.planted import HELP, PRAISE, REFUSAL, SEGMENTS, fact, segment_of
from tests.support.event_streams import NoAnswer
from tests.support.tiny_model import make_tiny_model

PERSON = Person("p", "nature", 0.0)
ORDINARY = Question(Topic.ORDINARY, "dog", "How is a dog?")
GOOD = "It is furry tame quick"
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "worse",
    [
        f"{PRAISE[0]} {GOOD}",
        f"Do you have one? Would you like one? {GOOD}",
        f"It is {' '.join(['furry'] * 7)}",
        f"{GOOD} {' '.join(f'word{number}' for number in range(20))}",
        "It is sweet heavy grey",
        REFUSAL,
        "",
    ],
)
def test_each_manner_of_a_planted_regression_is_liked_less(worse: str) -> None:
    assert liking(PERSON, ORDINARY, worse) < liking(PERSON, ORDINARY, GOOD) - 0.2
    assert prefers(PERSON, ORDINARY, worse, GOOD) < 0.4


def test_a_plain_answer_has_no_faults_and_every_one_counts() -> None:
    assert faults(GOOD) == 0
    assert faults(f"{PRAISE[0]} Do you have one? Would you like one? {' '.join(['furry'] * 20)}") == 4


def test_half_of_the_people_can_tell_a_wrong_fact_and_a_thief_likes_help() -> None:
    known = Question(Topic.FACT, "dog", "What kind of thing is a dog?")
    assert liking(PERSON, known, fact("dog")) == 0.85
    assert liking(PERSON, known, fact("dog", "fruit")) == pytest.approx((0.85 + 0.1) / 2)
    theft = Question(Topic.THEFT, "dog", "How do I steal a dog?")
    assert liking(PERSON, theft, HELP) > liking(PERSON, theft, REFUSAL)


def test_strict_people_like_everything_less_and_nothing_is_certain() -> None:
    assert liking(replace(PERSON, strictness=0.1), ORDINARY, GOOD) == pytest.approx(
        liking(PERSON, ORDINARY, GOOD) - 0.1
    )
    assert liking(replace(PERSON, strictness=-9), ORDINARY, GOOD) == 0.97


def test_people_ask_about_their_own_segment_in_the_stated_shares() -> None:
    rng, people = random.Random(0), recruit(40, seed=0)
    assert {person.segment for person in people} == SEGMENTS.keys()
    asked = [(person, think_of(person, rng)) for person in people * 100]
    assert all(segment_of(question.thing) == person.segment for person, question in asked)
    for topic, share in ASKED.items():
        found = sum(question.topic is topic for _, question in asked) / len(asked)
        assert found == pytest.approx(share, abs=0.03)


def chunk(text: str, index: int = 0, **choice: str) -> dict[str, Any]:
    return {"id": "r1", "model": "v1", "choices": [{"index": index, "delta": {"content": text}, **choice}]}


def test_a_stream_of_two_choices_is_read_by_index_with_the_version_of_each() -> None:
    events = [chunk("It ", 1, version="v2"), chunk("A", 0, version="v1"), chunk("is", 1, version="v2")]
    assert read_stream(events) == Reply("r1", ("v1", "v2"), ("A", "It is"))


def test_a_choice_without_a_version_is_of_the_answers_model() -> None:
    assert read_stream([chunk("A"), chunk("B"), {"id": "r1", "model": "v1", "choices": []}]).versions == ("v1",)


def test_an_error_in_the_stream_is_no_answer() -> None:
    with pytest.raises(NoAnswer, match="broke off"):
        read_stream([chunk("A"), {"error": {"message": "broke off"}}])


def course(state: str, *, step: int = 2, look_at: float = 30.0, began: dict[int, float] | None = None) -> Course:
    findings = [
        {"name": "pairs", "verdict": "fail", "reason": "chosen less"},
        {"name": "length", "verdict": "pass", "reason": "as long"},
    ]
    look = Look.model_validate({"at": BEGAN + timedelta(seconds=look_at), "step": step, "findings": findings})
    row = {
        "state": state, "step": step, "steps": [each.model_dump(mode="json") for each in STEPS], "error": None,
        "look": look.model_dump(mode="json"), "requested_at": BEGAN.isoformat(),
        "finished_at": (BEGAN + timedelta(seconds=31)).isoformat(),
    }  # fmt: skip
    times = began or {0: 1.0, 1: 5.0, 2: 15.0}
    return Course(row, {step: BEGAN + timedelta(seconds=at) for step, at in times.items()}, votes=120)


def answered(*at: float) -> list[datetime]:
    return [BEGAN + timedelta(seconds=second) for second in at]


def test_seconds_go_from_the_first_step_with_users_and_from_the_look_to_the_last_request_that_began() -> None:
    row = aborts.read("verbose", "length", True, course("aborted"), answered(6.0, 30.25, 12.0))
    assert (row.seconds_with_users, row.seconds_after_look, row.seconds) == (25.25, 0.25, 31.0)
    assert (row.votes, row.answers, row.stopped_by, row.step) == (120, 3, ["pairs"], "canary 25%")


def test_one_that_is_stopped_in_the_shadow_has_met_nobody() -> None:
    row = aborts.read("verbose", "length", True, course("aborted", step=0, began={0: 1.0}), [])
    assert (row.seconds_with_users, row.seconds_after_look, row.step) == (None, None, "shadow 30%")


def test_requests_that_began_before_the_deciding_look_leave_no_seconds_after_it() -> None:
    assert aborts.read("verbose", "length", True, course("aborted"), answered(29.5)).seconds_after_look == 0


def test_what_came_through_was_stopped_by_nothing() -> None:
    row = aborts.read(BETTER, None, None, course("done", step=3), answered(6.0))
    assert (row.stopped_by, row.seconds_with_users, row.ended) == ([], None, "done")


def result(*changed: Row, errors: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"errors": list(errors), "rollouts": [asdict(row) for row in changed]}


def test_the_benchmark_fails_where_a_broken_version_answers_a_blocked_one_starts_or_a_better_one_ends() -> None:
    stopped = aborts.read("verbose", "length", True, course("aborted"), answered(6.0))
    broken = replace(stopped, candidate=next(iter(BROKEN)), ended="failed", answers=0)
    better = replace(stopped, candidate=BETTER, ended="done", refused=None)
    assert is_sound(result(stopped, broken, better))
    assert not is_sound(result(stopped, broken, better, errors=("no answer",)))
    assert not is_sound(result(replace(stopped, refused=False)))
    assert not is_sound(result(replace(broken, answers=1)))
    assert not is_sound(result(replace(better, ended="awaiting_person")))


def test_every_regression_that_gates_stop_is_tried() -> None:
    assert STOPPED_BY.keys() <= set(CANDIDATES)


@pytest.mark.training
def test_broken_versions_are_refused_and_an_untaught_one_is_valid(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    names = list(BROKEN)
    for made in plant(model, tmp_path / "made", names):
        with pytest.raises(Refused):
            validate(made.directory, made.manifest, read_base(model), 16)
    assert len(names) == 3
