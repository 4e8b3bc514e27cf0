"""What a stage leaves on disk is whole and marked, or it is not there."""

import json
from pathlib import Path

import pytest

from trainer.workdir import MARKER, WorkDir, work_dir


@pytest.fixture
def work(tmp_path: Path) -> WorkDir:
    return work_dir(tmp_path, "7")


def test_a_cycle_has_a_directory_of_its_own(work: WorkDir, tmp_path: Path) -> None:
    assert work.at("reward") == tmp_path / "cycles" / "7" / "reward"


def test_a_stage_has_no_result_until_it_is_finished(work: WorkDir) -> None:
    part = work.begin("reward", 1)
    (part / "weights.bin").write_bytes(b"half")
    assert work.result("reward") is None
    assert not work.at("reward").exists()
    assert work.finish("reward", part, {"accuracy": 0.5}) == {"accuracy": 0.5}
    assert work.result("reward") == {"accuracy": 0.5}
    assert (work.at("reward") / "weights.bin").read_bytes() == b"half"


def test_the_results_are_those_of_finished_stages_alone(work: WorkDir) -> None:
    work.finish("sft", work.begin("sft", 1), {"rows": 8})
    (work.begin("reward", 1) / "weights.bin").write_bytes(b"half")
    assert work.results() == {"sft": {"rows": 8}}


def test_a_directory_without_its_marker_is_not_a_result(work: WorkDir) -> None:
    work.at("reward").mkdir(parents=True)
    assert work.result("reward") is None


def test_what_a_killed_worker_left_half_done_is_cleared_away(work: WorkDir) -> None:
    (work.begin("reward", 1) / "huge.bin").write_bytes(b"x")
    second = work.begin("reward", 2)
    assert list(second.iterdir()) == []
    assert [path.name for path in work.root.iterdir()] == ["reward.2.part"]


def test_the_same_worker_may_begin_again(work: WorkDir) -> None:
    (work.begin("reward", 1) / "huge.bin").write_bytes(b"x")
    assert list(work.begin("reward", 1).iterdir()) == []


def test_other_stages_are_left_alone(work: WorkDir) -> None:
    policy = work.begin("policy", 1)
    work.begin("reward", 1)
    assert policy.is_dir()


def test_a_stage_whose_place_is_taken_by_something_unfinished_fails_loudly(work: WorkDir) -> None:
    part = work.begin("reward", 1)
    work.at("reward").mkdir()
    (work.at("reward") / "stray").write_text("")
    with pytest.raises(OSError, match="reward"):
        work.finish("reward", part, {})


def test_the_marker_holds_the_result(work: WorkDir) -> None:
    work.finish("sft", work.begin("sft", 1), {"anchor": "base"})
    assert json.loads((work.at("sft") / MARKER).read_text()) == {"anchor": "base"}


def test_crashes_are_counted_over_all_workers(work: WorkDir, tmp_path: Path) -> None:
    assert [work_dir(tmp_path, "7").note_crash(f"killed\n{number}") for number in range(3)] == [1, 2, 3]


def test_the_metrics_of_a_stage_outlive_an_attempt_that_was_killed(work: WorkDir) -> None:
    work.metrics_file("reward").parent.mkdir(parents=True)
    for name in ("reward", "reward-judge", "evaluating"):
        work.metrics_file(name).write_text("{}")
    work.begin("reward", 1)
    work.begin("reward", 2)
    assert [path.name for path in work.metrics_files(["policy", "reward"])] == ["reward-judge.jsonl", "reward.jsonl"]
