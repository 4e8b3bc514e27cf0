from itertools import islice
from pathlib import Path
from threading import Timer

import pytest

from infra.child import tail
from infra.log_view import LogLine, NoSuchLog, follow, last_lines, log_files


def make_logs(home: Path, **texts: str) -> Path:
    (home / "logs").mkdir()
    for name, text in texts.items():
        (home / "logs" / f"{name}.log").write_text(text)
    return home


def test_the_last_lines_of_each_log_come_with_their_process(tmp_path: Path) -> None:
    files = log_files(make_logs(tmp_path, gateway="a\nb\n", feedback="c\n"), None)
    assert list(last_lines(files, 1)) == [LogLine("feedback", "c"), LogLine("gateway", "b")]


def test_a_process_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    make_logs(tmp_path, gateway="", feedback="")
    with pytest.raises(NoSuchLog, match="no log of gatway .* there is feedback, gateway"):
        log_files(tmp_path, "gatway")


def test_what_is_written_later_is_followed(tmp_path: Path) -> None:
    files = log_files(make_logs(tmp_path, gateway="old\n"), "gateway")
    writer = Timer(0.3, lambda: files[0].write_text("old\nnew\n"))
    writer.start()
    assert list(islice(follow(files), 1)) == [LogLine("gateway", "new")]
    writer.join()


def test_a_log_that_was_put_aside_is_followed_from_its_new_beginning(tmp_path: Path) -> None:
    files = log_files(make_logs(tmp_path, gateway="much that was written before\n"), "gateway")
    writer = Timer(0.3, lambda: files[0].write_text("fresh\n"))
    writer.start()
    assert list(islice(follow(files), 1)) == [LogLine("gateway", "fresh")]
    writer.join()


def test_the_end_of_a_long_file_is_read_without_the_rest(tmp_path: Path) -> None:
    long = tmp_path / "long.log"
    long.write_text("".join(f"line {number}\n" for number in range(200_000)))
    assert tail(long, 2) == ["line 199998", "line 199999"]
    assert tail(tmp_path / "none.log", 2) == []
