"""The controller as a process."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from infra.ports import Ports
from serving import main
from tests.support.controllers import champion, routing
from tests.support.home import make_ports
from tests.support.tiny_model import make_tiny_model

START_S = 60


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    model = make_tiny_model(tmp_path / "model")
    made = make_ports(tmp_path / "home", THUMBWHEEL_SERVING__MODEL=str(model))
    yield made
    made.close()


@pytest.fixture
def process(ports: Ports) -> Iterator["subprocess.Popen[str]"]:
    known = {"THUMBWHEEL_HOME": str(ports.home), "THUMBWHEEL_SERVING__MODEL": ports.settings.serving.model}
    running = subprocess.Popen([sys.executable, "-m", "serving.main"], env=os.environ | known, text=True)
    yield running
    running.kill()
    running.wait()


def announced(ports: Ports) -> str:
    """Its address, once it listens."""
    path = ports.home / "run" / "controller.json"
    deadline = time.monotonic() + START_S
    while not path.exists() or routing(ports) is None:
        assert time.monotonic() < deadline, "the controller did not start"
        time.sleep(0.05)
    return str(json.loads(path.read_text())["address"])


def test_it_leads_is_alive_not_ready_without_an_engine_and_ends_at_sigterm(
    ports: Ports, process: "subprocess.Popen[str]"
) -> None:
    address = announced(ports)
    assert champion(ports) == "base"
    assert httpx.get(f"{address}/healthz", timeout=30).status_code == 200
    ready = httpx.get(f"{address}/readyz", timeout=30)
    assert ready.status_code == 503
    assert "no replica may answer users yet" in ready.text
    assert "thumbwheel_serving_routing_revision 1.0" in httpx.get(f"{address}/metrics", timeout=30).text
    process.send_signal(signal.SIGTERM)
    assert process.wait(START_S) == 0


def test_a_second_one_in_the_same_directory_waits_for_the_first(tmp_path: Path) -> None:
    with main.alone(tmp_path), (tmp_path / "run" / "controller.lock").open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with main.alone(tmp_path):
        pass


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({}, "serving.model is not set"),
        ({"THUMBWHEEL_SERVING__MODEL": "/nowhere"}, "serving.model: "),
        ({"THUMBWHEEL_SERVING__MODLE": "x"}, "serving.modle: there is no such setting"),
    ],
)
def test_what_only_a_person_can_mend_ends_it_with_two_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], environ: dict, told: str
) -> None:
    make_ports(tmp_path / "home").close()
    monkeypatch.setenv("THUMBWHEEL_HOME", str(tmp_path / "home"))
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert main.main() == 2
    assert capsys.readouterr().err.startswith(told)
