"""One stack as a user meets it: up, an answer, a vote, a dataset, a killed supervisor, up again, down."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from infra.processes import is_alive, marked
from infra.stack import StackState, current_status, records
from tests.support.product import Product, running_product
from tests.support.tiny_model import make_tiny_model

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.timeout(600)]

QUESTION = [{"role": "user", "content": "What does math.cos do?"}]
PROCESSES = {"replica-0", "gateway", "feedback", "trainer", "controller"}
CONSENT = {"consent_train": "true"}


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
    with client(product) as sdk:
        whole = ask(sdk)
        chunks = list(sdk.chat.completions.create(model="assistant", messages=QUESTION, max_tokens=8, stream=True))
    assert whole.model == "base"
    assert whole.id.startswith("chatcmpl-")
    assert {chunk.model for chunk in chunks} == {"base"}


def test_votes_become_a_dataset(product: Product) -> None:
    """A rater's up and down on one prompt make a pair; the down alone an unpaired row."""
    with client(product) as sdk:
        for user in ("ann", "bob", "cai"):
            for value in (True, False):
                vote(product, ask(sdk, user=user).id, user, value)
    built = json.loads(product.command("dataset", "build", "--json"))
    assert sum(built["counts"]["unpaired"].values()) > 0
    assert re.fullmatch("[0-9a-f]{64}", built["sha256"])


def test_a_second_up_is_refused_in_one_line(product: Product) -> None:
    code, said = product.attempt("up", "--detach")
    assert code == 2
    assert said.strip() == f"thumbwheel: Thumbwheel runs already in {product.home}: see `thumbwheel status`"


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
    with client(product) as sdk:
        assert ask(sdk).model == "base"


def test_down_leaves_no_orphan_and_up_does_it_all_again(product: Product) -> None:
    running = current_status(product.home)
    families = [psutil.Process(record.pid) for record in records(running)]
    everyone = families + [child for process in families for child in process.children(recursive=True)]
    product.command("down")
    assert not any(process.is_running() for process in everyone)
    assert marked(product.home) == []
    assert current_status(product.home).state is StackState.STOPPED
    assert product.command("down") == f"nothing runs in {product.home}\n"


def client(product: Product) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{product.address}/v1", api_key=product.keys["client"], max_retries=0)


def ask(sdk: openai.OpenAI, *, user: str = "ann") -> openai.types.chat.ChatCompletion:
    return sdk.chat.completions.create(model="assistant", messages=QUESTION, max_tokens=12, user=user, metadata=CONSENT)


def vote(product: Product, response_id: str, rater: str, value: bool) -> None:
    body = {"response_id": response_id, "rater": rater, "name": "thumbs", "value": value, "consent_train": True}
    headers = {"Authorization": f"Bearer {product.keys['client']}"}
    answer = httpx.post(f"{product.address}/v1/feedback", json=body, headers=headers)
    assert answer.status_code == 202, answer.text


def until_gone(product: Product) -> None:
    """Children end by themselves once the kernel tells them; the engine takes the longest."""
    deadline = time.monotonic() + 60
    while marked(product.home) and time.monotonic() < deadline:
        time.sleep(0.1)
