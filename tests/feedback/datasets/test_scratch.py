"""What a killed process has left of a dataset is cleared away; what is being made is not."""

from pathlib import Path

import pytest

from feedback.datasets.scratch import clear_scratch, scratch_directory


def test_a_directory_is_gone_after_its_use(tmp_path: Path) -> None:
    with scratch_directory(tmp_path / "root") as path:
        (path / "file").write_text("x")
    assert list((tmp_path / "root").iterdir()) == []


def test_it_is_gone_after_a_failure_too(tmp_path: Path) -> None:
    with pytest.raises(InterruptedError), scratch_directory(tmp_path):
        raise InterruptedError
    assert list(tmp_path.iterdir()) == []


def test_one_in_use_is_left_alone(tmp_path: Path) -> None:
    with scratch_directory(tmp_path) as path:
        assert clear_scratch(tmp_path) == []
        assert path.is_dir()


def test_one_of_a_process_that_is_gone_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / "left" / "preference").mkdir(parents=True)
    assert clear_scratch(tmp_path) == ["left"]
    assert list(tmp_path.iterdir()) == []
    assert clear_scratch(tmp_path / "nowhere") == []
