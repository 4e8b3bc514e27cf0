"""One stack as a user meets it: up, an answer, a vote, a dataset, a killed supervisor, up again, down."""

import asyncio
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.processes import is_alive, marked
from infra.stack import StackState, current_status, records
from tests.support.ledger import until
from tests.support.product import START_TIMEOUT_S, Product, running, running_product
from tests.support.tiny_model import make_tiny_model
from tests.support.visitor import QUESTION, Visitor

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.timeout(600)]

OURS = ("gateway", "feedback", "trainer", "controller")
PROCESSES = {"replica-0", *OURS}
LOOKING = [
    tuple(line.split())
    for line in (
        "status", "settings", "doctor", "infra init", "infra migrate", "key list", "key create another",
        "key revoke another", "dataset list", "cycle list", "adapter list", "rollout list", "rollout status",
    )
]  # fmt: skip
METRIC = {
    "gateway": "thumbwheel_gateway_answers_total",
    "feedback": "thumbwheel_feedback_events_total",
    "trainer": "thumbwheel_trainer_runs_total",
    "controller": "thumbwheel_serving_replicas_ready",
    "replica-0": "vllm:num_requests_running",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Product]:
    with running_product(tmp_path_factory.mktemp("stack") / "home", model) as running:
        yield running


def test_each_process_is_ready_and_the_base_answers(product: Product) -> None:
    told = json.loads(product.command("status", "--json"))
    assert told["state"] == "ready"
    assert {name: p["state"] for name, p in told["processes"].items()} == dict.fromkeys(PROCESSES, "ready")
    assert told["champion"] == {"assistant": "base"}


def test_the_stock_sdk_chats_and_streams(product: Product) -> None:
    visitor = Visitor(product)
    whole = visitor.ask()
    with visitor.sdk() as sdk:
        question = [{"role": "user", "content": QUESTION}]
        chunks = list(sdk.chat.completions.create(model="assistant", messages=question, max_tokens=8, stream=True))  # type: ignore[call-overload]
    assert whole.model == "base"
    assert whole.id.startswith("chatcmpl-")
    assert {chunk.model for chunk in chunks} == {"base"}


@pytest.mark.parametrize("process", OURS)
def test_each_of_our_processes_says_that_it_lives_and_is_ready(product: Product, process: str) -> None:
    assert product.page(process, "/healthz").text == "ok\n"
    assert product.page(process, "/readyz").status_code == 200


@pytest.mark.parametrize("process", sorted(PROCESSES))
def test_each_process_has_prometheus_metrics(product: Product, process: str) -> None:
    page = product.page(process, "/metrics")
    assert page.headers["content-type"].startswith("text/plain")
    assert METRIC[process] in page.text


def test_votes_become_a_dataset(product: Product) -> None:
    """A rater's up and down on one prompt make a pair; the down alone an unpaired row."""
    for name in ("ann", "bob", "cai"):
        visitor = Visitor(product, name)
        for good in (True, False):
            visitor.rate(visitor.ask().id, good=good)
    built = json.loads(product.command("dataset", "build", "--json"))
    assert sum(built["counts"]["unpaired"].values()) > 0
    assert re.fullmatch("[0-9a-f]{64}", built["sha256"])


@pytest.mark.parametrize("words", LOOKING, ids=" ".join)
def test_with_json_a_command_prints_one_document_and_nothing_else(product: Product, words: tuple[str, ...]) -> None:
    code, printed, said = product.run(*words, "--json")
    assert code in (0, 1), said
    json.loads(printed)


def test_a_second_up_is_refused_in_one_line(product: Product) -> None:
    code, _, said = product.run("up", "--detach")
    assert code == 2
    assert said.strip() == f"thumbwheel: Thumbwheel runs already in {product.home}: see `thumbwheel status`"


def test_another_stack_on_the_same_port_is_refused_in_one_line(product: Product, tmp_path: Path, model: Path) -> None:
    other = Product(tmp_path / "other", product.port, product.environ)
    code, _, said = other.run("up", "--detach", "--model", str(model))
    assert code == 2
    assert said == (f"thumbwheel: 127.0.0.1:{product.port} is taken: stop who uses it or choose another with --port\n")


def test_logs_of_a_process_can_be_read(product: Product) -> None:
    lines = product.command("logs", "gateway", "-n", "5").splitlines()
    assert 0 < len(lines) <= 5


def test_keys_are_for_their_owner_alone(product: Product) -> None:
    assert (product.home / "keys.json").stat().st_mode & 0o777 == 0o600


def test_a_killed_supervisor_takes_all_along_and_the_next_up_goes_on_where_it_was(
    product: Product, model: Path
) -> None:
    before = current_status(product.home)
    keys = product.keys
    os.kill(before.pid, signal.SIGKILL)
    until_gone(product)
    product.command("up", "--detach", "--model", str(model))
    assert not any(is_alive(record) for record in records(before))
    assert product.keys == keys
    assert Visitor(product).ask().model == "base"


def test_down_leaves_no_orphan_and_says_so_where_nothing_runs(product: Product) -> None:
    family = product.family()
    product.command("down")
    assert running(family) == []
    assert marked(product.home) == []
    assert current_status(product.home).state is StackState.STOPPED
    assert product.command("down") == f"nothing runs in {product.home}\n"


async def test_in_the_foreground_it_says_where_all_is_and_ctrl_c_stops_it(product: Product, model: Path) -> None:
    up = subprocess.Popen(
        product.words("up", "--model", str(model)),
        env=product.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    await until(lambda: is_ready(product, up.pid), timeout_s=START_TIMEOUT_S, what="the stack is ready")
    family = product.family()
    up.send_signal(signal.SIGINT)
    printed, _ = await asyncio.to_thread(up.communicate, timeout=90)
    assert up.returncode == 0
    assert running(family) == []
    assert all(name in printed for name in PROCESSES)
    assert printed.splitlines()[-2:] == [f"keys     {product.home}/keys.json", f"clients  {product.address}/v1"]


async def is_ready(product: Product, supervisor: int) -> bool:
    status = current_status(product.home)
    return status.pid == supervisor and status.state is StackState.READY


def until_gone(product: Product) -> None:
    """Children end by themselves once the kernel tells them; the engine takes the longest."""
    deadline = time.monotonic() + 60
    while marked(product.home) and time.monotonic() < deadline:
        time.sleep(0.1)
