"""Principles come from the operator's file, or from the one that comes along."""

from pathlib import Path

import pytest

from feedback.judging.constitution import NoConstitution, read_constitution


def test_one_comes_along() -> None:
    assert len(read_constitution("").principles) >= 5


def test_the_operators_own_is_read_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "ours.txt"
    file.write_text("# what we stand for\n\nBe kind.\n  Be brief.  \n")
    assert read_constitution(str(file)).principles == ("Be kind.", "Be brief.")


def test_comments_and_blank_lines_make_no_other_judge_and_another_word_does(tmp_path: Path) -> None:
    digests = []
    for text in ("Be kind.\n", "# ours\n\nBe kind.\n", "Be kinder.\n"):
        (tmp_path / "ours.txt").write_text(text)
        digests.append(read_constitution(str(tmp_path / "ours.txt")).digest)
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("content", [None, b"", b"# nothing\n", b"\xff\xfe\xfa"])
def test_a_file_without_principles_is_refused_and_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ours.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(NoConstitution, match=r"ours\.txt"):
        read_constitution(str(file))
