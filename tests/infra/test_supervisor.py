import os
import signal
from pathlib import Path

import psutil
import pytest

from infra.processes import is_alive
from infra.programs import StopStage
from infra.stack import ProcessState, StackState, records
from infra.supervisor import AlreadyRunning, only_one, sweep
from tests.support.fake_stack import make_program, supervised, wait_for


def test_a_stack_is_ready_when_each_process_says_so(tmp_path: Path) -> None:
    with supervised(tmp_path, make_program("one"), make_program("two")) as stack:
        status = stack.status()
        assert status.state is StackState.READY
        assert {process.state for process in status.processes.values()} == {ProcessState.READY}
        assert all(is_alive(record) and record.address.startswith("http://") for record in records(status))


def test_what_dies_is_started_again_under_another_pid(tmp_path: Path) -> None:
    with supervised(tmp_path, make_program("one"), make_program("two")) as stack:
        before = stack.status().processes
        os.kill(before["one"].pid, signal.SIGKILL)
        wait_for(lambda: stack.restarted("one"))
        after = stack.status().processes
        assert after["one"].pid != before["one"].pid
        assert after["two"] == before["two"]


def test_the_children_of_a_process_that_died_die_with_it(tmp_path: Path) -> None:
    with supervised(tmp_path, make_program("engine", "--family")) as stack:
        core = psutil.Process(stack.child_of("engine"))
        os.kill(stack.process_status("engine").pid, signal.SIGKILL)
        wait_for(lambda: stack.restarted("engine"))
        assert not core.is_running()


def test_a_process_that_dies_again_and_again_is_tried_later_and_later_but_for_ever(tmp_path: Path) -> None:
    with supervised(tmp_path, make_program("one")) as stack:
        for times in range(1, 6):
            os.kill(stack.process_status("one").pid, signal.SIGKILL)
            wait_for(lambda times=times: stack.restarted("one", times))
        assert stack.status().state is StackState.READY


def test_sigterm_stops_stage_by_stage_and_ends_with_zero(tmp_path: Path) -> None:
    programs = [
        make_program("engine", stage=StopStage.ENGINE),
        make_program("worker"),
        make_program("gateway", stage=StopStage.GATEWAY),
    ]
    with supervised(tmp_path, *programs) as stack:
        assert stack.stop() == 0
    drained = sorted(tmp_path.glob("*.drained"), key=lambda path: path.stat().st_mtime_ns)
    assert [path.stem for path in drained] == ["gateway", "worker", "engine"]
    assert stack.status().state is StackState.STOPPED


def test_who_does_not_drain_in_time_is_killed(tmp_path: Path) -> None:
    with supervised(tmp_path, make_program("deaf", "--deaf", drain_s=0.3)) as stack:
        deaf = psutil.Process(stack.process_status("deaf").pid)
        assert stack.stop() == 0
        assert not deaf.is_running()


def test_a_stop_leaves_no_orphan_not_even_one_that_left_its_group(tmp_path: Path) -> None:
    with supervised(tmp_path, make_program("one", "--stray"), make_program("two", "--family")) as stack:
        orphans = [psutil.Process(stack.child_of(name)) for name in ("one", "two")]
        stack.stop()
        assert not any(orphan.is_running() for orphan in orphans)


def test_a_killed_supervisor_takes_its_children_along(tmp_path: Path) -> None:
    with supervised(tmp_path, make_program("one"), make_program("two")) as stack:
        left = records(stack.status())
        stack.process.kill()
        stack.process.wait()
        wait_for(lambda: not any(is_alive(record) for record in left))


def test_what_outlives_a_killed_supervisor_is_swept_by_the_next_start(tmp_path: Path) -> None:
    with supervised(tmp_path, make_program("one", "--deaf"), make_program("two", "--stray")) as stack:
        left = [*records(stack.status())]
        stray = psutil.Process(stack.child_of("two"))
        stack.process.kill()
        stack.process.wait()
        assert sweep(tmp_path, grace_s=0.3) >= 2
        assert not any(is_alive(record) for record in left)
        assert not stray.is_running()


def test_a_process_that_refuses_its_settings_ends_the_start_with_its_own_words(tmp_path: Path) -> None:
    with supervised(tmp_path, make_program("good"), make_program("bad", "--code", "2")) as stack:
        assert stack.process.wait(20) == 2
    assert stack.status().state is StackState.FAILED
    assert stack.status().problem == "bad ended with 2: bad cannot go on"


def test_a_start_that_crashes_over_and_over_gives_up(tmp_path: Path) -> None:
    with supervised(tmp_path, make_program("bad", "--code", "7")) as stack:
        assert stack.process.wait(20) == 1
    assert stack.status().problem == "bad ended with 7: bad cannot go on"


def test_a_start_that_takes_too_long_names_who_is_late(tmp_path: Path) -> None:
    with supervised(tmp_path, make_program("good"), make_program("mute", "--mute"), start_timeout_s=5) as stack:
        assert stack.process.wait(30) == 1
    assert "mute (see `thumbwheel logs`)" in stack.status().problem
    assert "good" not in stack.status().problem


def test_a_second_supervisor_of_the_same_home_is_refused(tmp_path: Path) -> None:
    with (
        supervised(tmp_path, make_program("one")),
        pytest.raises(AlreadyRunning, match="runs already"),
        only_one(tmp_path),
    ):
        pass


def test_the_next_start_knows_how_long_the_last_one_took(tmp_path: Path) -> None:
    with supervised(tmp_path, make_program("one")) as stack:
        took = stack.process_status("one").usual_start_s
        stack.stop()
    assert f'"one": {took}' in (tmp_path / "run" / "start_seconds.json").read_text()


def test_a_sweep_of_a_home_where_nothing_ran_does_nothing(tmp_path: Path) -> None:
    assert sweep(tmp_path) == 0
