import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from infra.processes import (
    STACK_VARIABLE,
    ProcessRecord,
    announce,
    announced,
    end,
    group_members,
    is_alive,
    marked,
    record_of,
    wait_until_gone,
    write_json,
)

SLEEP = "import time; time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); {SLEEP}"
PARENT = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEP!r}]); print(flush=True); {SLEEP}"


def start(code: str, **environ: str) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE, env=environ or None
    )
    if "print" in code:
        assert process.stdout is not None
        process.stdout.readline()
    return process


@pytest.fixture
def sleeper() -> "Iterator[subprocess.Popen[bytes]]":
    with start(SLEEP) as process:
        yield process
        process.kill()


def test_an_announced_process_is_found_under_its_name(tmp_path: Path) -> None:
    announce(tmp_path, "gateway", "http://127.0.0.1:1")
    found = announced(tmp_path, "gateway")
    assert found is not None
    assert (found.pid, found.address) == (psutil.Process().pid, "http://127.0.0.1:1")
    assert announced(tmp_path, "feedback") is None


def test_an_announcement_dies_with_its_process(tmp_path: Path, sleeper: "subprocess.Popen[bytes]") -> None:
    record = record_of(sleeper.pid)
    write_json(tmp_path / "run" / "engine.json", {"pid": record.pid, "started": record.started, "address": ""})
    assert announced(tmp_path, "engine") is not None
    sleeper.kill()
    sleeper.wait()
    assert announced(tmp_path, "engine") is None


def test_a_pid_that_was_used_again_is_another_process(sleeper: "subprocess.Popen[bytes]") -> None:
    record = record_of(sleeper.pid)
    stranger = ProcessRecord(record.pid, record.started - 100)
    assert is_alive(record)
    assert not is_alive(stranger)
    assert group_members(stranger) == []


def test_a_dead_process_that_nobody_has_waited_for_is_not_alive(sleeper: "subprocess.Popen[bytes]") -> None:
    record = record_of(sleeper.pid)
    sleeper.kill()
    assert wait_until_gone(record, 5)


def test_waiting_for_a_process_that_lives_on_ends_in_time(sleeper: "subprocess.Popen[bytes]") -> None:
    assert not wait_until_gone(record_of(sleeper.pid), 0.2)


def test_a_group_is_found_by_its_dead_leader() -> None:
    with start(PARENT) as leader:
        record = record_of(leader.pid)
        leader.kill()
        leader.wait()
        left = group_members(record)
        assert len(left) == 1
        assert end(left, grace_s=5) == []
        assert group_members(record) == []


def test_a_record_from_before_the_last_boot_names_nobody(sleeper: "subprocess.Popen[bytes]") -> None:
    assert group_members(ProcessRecord(sleeper.pid, psutil.boot_time() - 3600)) == []


def test_who_ignores_sigterm_is_killed_after_the_grace() -> None:
    with start(DEAF) as deaf:
        assert end([psutil.Process(deaf.pid)], grace_s=0.2) == [deaf.pid]
        assert not psutil.pid_exists(deaf.pid)


def test_the_mark_of_a_stack_is_found_in_any_group(tmp_path: Path) -> None:
    with start(SLEEP, **{STACK_VARIABLE: str(tmp_path)}) as process:
        assert [found.pid for found in marked(tmp_path)] == [process.pid]
        assert marked(tmp_path / "other") == []
        process.kill()
