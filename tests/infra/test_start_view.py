import io
from dataclasses import replace

from infra.stack import ProcessState, ProcessStatus, StackState, StackStatus
from infra.start_view import StartView, eta_s, line


def make_process(name: str, state: ProcessState, *, since: float = 100, usual: float = 40) -> ProcessStatus:
    return ProcessStatus(name, state, 1, 1.0, "", "/readyz", 0, since, usual)


def make_status(**states: ProcessState) -> StackStatus:
    return StackStatus(StackState.STARTING, 1, 1.0, {name: make_process(name, state) for name, state in states.items()})


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_line_says_who_is_ready_and_how_long_the_rest_may_take() -> None:
    status = make_status(gateway=ProcessState.READY, engine=ProcessState.STARTING)
    assert line(status, now=112) == "starting  gateway ready · engine 12 s · about 28 s left"


def test_the_slowest_decides_and_a_late_one_always_needs_a_little_more() -> None:
    status = make_status(feedback=ProcessState.STARTING, engine=ProcessState.STARTING)
    faster = replace(status.processes["feedback"], usual_start_s=5)
    status = replace(status, processes={**status.processes, "feedback": faster})
    assert eta_s(status, now=110) == 30
    assert eta_s(status, now=500) == 1


def test_when_all_are_ready_nothing_is_left_to_wait_for() -> None:
    assert eta_s(make_status(gateway=ProcessState.READY), now=110) == 0


def test_without_a_terminal_a_line_comes_only_when_somebody_becomes_ready() -> None:
    stream = io.StringIO()
    view = StartView(stream)
    for state in (ProcessState.STARTING, ProcessState.STARTING, ProcessState.READY):
        view(make_status(gateway=state, engine=ProcessState.STARTING))
    assert len(stream.getvalue().splitlines()) == 2


def test_on_a_terminal_the_line_is_rewritten_and_cleared_at_the_end() -> None:
    stream = Terminal()
    view = StartView(stream)
    view(make_status(gateway=ProcessState.STARTING))
    view(make_status(gateway=ProcessState.STARTING))
    view(replace(make_status(gateway=ProcessState.READY), state=StackState.READY))
    assert "\n" not in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[2K")
