"""Each process and each server is struck once while clients chat and vote: their books and the store agree."""

import os
from pathlib import Path

import pytest

from tests.chaos.driver import DIRECTORY, drive, say, write
from tests.chaos.faults import TARGETS, Action, plan
from tests.support.servers import missing_is_skipped
from tests.support.tiny_model import make_tiny_model


@pytest.mark.chaos
@pytest.mark.timeout(1500)
def test_whoever_is_struck_no_acknowledged_vote_is_lost_or_doubled(home: Path, tmp_path: Path) -> None:
    faults, seed = len(TARGETS), int(os.environ.get("SEED", "1"))
    with missing_is_skipped():
        report = drive(home, make_tiny_model(tmp_path / "model"), faults=faults, seed=seed, tell=say)
    write(report, DIRECTORY / "test.json")
    assert report.is_clean, report.findings
    assert report.acknowledged == report.stored > 100
    assert report.refused_503 > 0
    assert sum(report.faults.values()) == faults >= 10


def test_a_plan_strikes_every_target_before_it_strikes_one_again() -> None:
    targets = [fault.target for fault in plan(3 * len(TARGETS), seed=7)]
    for start in range(0, len(targets), len(TARGETS)):
        assert set(targets[start : start + len(TARGETS)]) == set(TARGETS)


def test_a_long_plan_does_everything_to_everyone() -> None:
    done = {(fault.target, fault.action) for fault in plan(3 * len(TARGETS), seed=3)}
    assert done == {(target, action) for target, actions in TARGETS.items() for action in actions}
    assert {action for _, action in done} == set(Action)


def test_what_needs_kafka_is_not_done_while_kafka_is_struck() -> None:
    claims = {fault.target: fault.claims for fault in plan(len(TARGETS), seed=1)}
    for target in ("spool", "events"):
        assert claims[target] & claims["kafka"]
    assert not claims["gateway"] & claims["engine"]


def test_the_same_seed_is_the_same_plan() -> None:
    assert plan(30, seed=5) == plan(30, seed=5) != plan(30, seed=6)
