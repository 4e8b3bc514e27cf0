"""Names, closures and the progress of a stage."""

import re
from pathlib import Path

from trainer.progress import eta_s
from trainer.publish import closure, code_version, reward_name, version_name
from trainer.workdir import WorkDir


def test_a_version_is_named_for_alias_cycle_and_weights() -> None:
    assert version_name("assistant", "12", "deadbeefcafe") == "assistant-12-deadbeef"
    assert reward_name("assistant", "12", "judge", "deadbeefcafe") == "assistant-12-judge-deadbeef"


def test_the_closure_holds_every_dataset_once() -> None:
    assert closure("b", ["a", "b"], []) == ["a", "b"]


def test_the_code_version_is_a_release_and_a_hash_of_the_source() -> None:
    assert re.fullmatch(r"[\d.]+\+[0-9a-f]{12}", code_version())
    assert code_version() == code_version()


def test_the_time_left_is_the_mean_pace_so_far() -> None:
    assert eta_s(10.0, 4, 12) == 20.0
    assert eta_s(10.0, 0, 12) is None
    assert eta_s(10.0, 12, 12) == 0.0


def test_crashes_are_counted_over_all_workers(tmp_path: Path) -> None:
    work = WorkDir(tmp_path / "1")
    assert [work.note_crash(f"killed\n{n}") for n in range(3)] == [1, 2, 3]
