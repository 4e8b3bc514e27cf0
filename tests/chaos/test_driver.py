"""Each process and each server is struck once while clients chat and vote: their books and the store agree."""

import os
from pathlib import Path

import pytest

from tests.chaos.driver import DIRECTORY, drive, say, write
from tests.chaos.faults import TARGETS, Action, plan
from tests.support.servers import missing_is_skipped
from tests.support.tiny_model import make_tiny_model

BETWEEN = {"engine", "gateway"}  # a question and its answer: only their faults may cost a request


@pytest.mark.chaos
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # sockets of clients whose broker died
@pytest.mark.timeout(1500)
def test_whoever_is_struck_no_acknowledged_vote_is_lost_or_doubled(home: Path, tmp_path: Path) -> None:
    faults, seed = len(TARGETS), int(os.environ.get("SEED", "1"))
    with missing_is_skipped():
        report = drive(home, make_tiny_model(tmp_path / "model"), faults=faults, seed=seed, tell=say)
    write(report, DIRECTORY / "test.json")
    assert (report.lost, report.doubled, report.answers_lost) == (0, 0, 0), report.findings
    assert report.acknowledged == report.stored > 100
    assert report.refused_503 > 0
    assert sum(report.faults.values()) == faults >= 10
    assert [targets for targets in report.chat_failed if BETWEEN.isdisjoint(targets.split("+"))] == []


def test_a_plan_strikes_every_target_before_it_strikes_one_again() -> None:
    targets = [fault.target for fault in plan(3 * len(TARGETS), seed=7)]
    for start in range(0, len(targets), len(TARGETS)):
        assert set(targets[start : start + len(TARGETS)]) == set(TARGETS)


def test_a_long_plan_does_everything_to_everyone() -> None:
    done = {(fault.target, fault.action) for fault in plan(3 * len(TARGETS), seed=3)}
    assert done == {(target, action) for target, actions in TARGETS.items() for action in actions}
    assert {action for _, action in done} == set(Action)


def test_the_same_seed_is_the_same_plan() -> None:
    assert plan(30, seed=5) == plan(30, seed=5) != plan(30, seed=6)
