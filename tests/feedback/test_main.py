"""The process as a whole: starts, says how it is, builds a cycle's dataset, drains, ends."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from feedback.errors import Stopping
from feedback.main import Repeater
from infra.contracts.traces import Question
from infra.home import prepare
from infra.ports import Ports
from infra.registry import cycles, traces
from infra.settings import load_settings
from tests.support.feedback import Room, a_days_events

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = Ports(load_settings(tmp_path, {}))
    prepare(made.settings)
    yield made
    made.close()


@pytest.fixture
def process(ports: Ports) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ, "THUMBWHEEL_HOME": str(ports.home), "PYTHONPATH": str(ROOT),
        "THUMBWHEEL_FEEDBACK__WINDOW_DAYS": "100000",
        "THUMBWHEEL_FEEDBACK__KEEP_DAYS": "1000000",
    }  # fmt: skip
    started = subprocess.Popen([sys.executable, "-m", "feedback.main"], env=environment, cwd=ports.home)
    yield started
    started.kill()
    started.wait()


def until(found: Callable[[], bool], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not found():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


def get(ports: Ports, path: str) -> str:
    address = json.loads((ports.home / "run" / "feedback.json").read_text())["address"]
    with urllib.request.urlopen(f"{address}{path}", timeout=5) as response:
        return str(response.read().decode())


def traced(ports: Ports) -> str:
    """What the process says of an answer when it is asked over the registry."""
    with ports.database.transaction() as session:
        trace_id = traces.request(session, "default", Question(response_id="r3a")).trace_id

    def answer() -> dict[str, Any] | None:
        with ports.database.reading() as session:
            return traces.get(session, "default", trace_id).answer

    until(lambda: answer() is not None)
    return str((answer() or {})["response_id"])


def test_the_process_stores_builds_reports_traces_and_drains(ports: Ports, process: subprocess.Popen[bytes]) -> None:
    room = Room(ports.home, ports.database, ports.sealer, ports.eventlog)
    room.append(a_days_events(30))
    with ports.database.transaction() as session:
        cycle_id = cycles.trigger(session, tenant="default", alias="assistant", actor="test").cycle_id

    def moved_on() -> bool:
        with ports.database.reading() as session:
            return cycles.get(session, cycle_id).state not in ("queued", "snapshotting")

    until(moved_on)
    with ports.database.reading() as session:
        assert cycles.get(session, cycle_id).state == "sft"
    assert traced(ports) == "r3a"
    assert get(ports, "/healthz") == "ok\n"
    assert get(ports, "/readyz").strip() == "ok"
    assert f'thumbwheel_feedback_events_total{{outcome="stored"}} {float(len(a_days_events(30)))}' in get(
        ports, "/metrics"
    )
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=15) == 0


def test_the_process_imports_no_torch() -> None:
    code = "import sys, feedback.main, feedback.commands; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_loop_outlives_its_errors() -> None:
    stop, turns = threading.Event(), iter([ZeroDivisionError(), None])

    def turn() -> None:
        error = next(turns, None)
        if error is not None:
            raise error
        stop.set()

    repeater = Repeater("test", turn, 0.01, stop)
    repeater.thread.start()
    repeater.thread.join(timeout=10)
    assert stop.is_set()


def test_a_loop_that_is_asked_to_stop_ends_quietly() -> None:
    def turn() -> None:
        raise Stopping("asked to end")

    repeater = Repeater("test", turn, 0.01, threading.Event())
    repeater.thread.start()
    repeater.thread.join(timeout=10)
    assert not repeater.thread.is_alive()
