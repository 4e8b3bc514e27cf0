"""The whole product once, with the real engine, in the suite that every change runs: up, an answer, a vote, down."""

import json
from pathlib import Path

import pytest

from infra.processes import marked
from infra.stack import StackState, current_status
from tests.support.ledger import Ledger, stored, until
from tests.support.product import Product, running, running_product
from tests.support.tiny_model import make_tiny_model
from tests.support.visitor import Visitor

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]


async def test_an_answer_and_its_vote_are_stored_and_a_stop_leaves_nothing_running(tmp_path: Path) -> None:
    with running_product(tmp_path / "home", make_tiny_model(tmp_path / "model")) as product:
        ann = Visitor(product, "ann")
        answer = ann.ask()
        ledger = Ledger(delivered={answer.id}, votes={"": ann.rate(answer.id, good=True)})
        await until(lambda: has_all(product, ledger), timeout_s=30, what="answer and vote are stored")
        told = json.loads(product.command("status", "--json"))
        family = product.family()
        product.command("down")
    assert answer.model == told["champion"]["assistant"] == "base"
    assert {process["state"] for process in told["processes"].values()} == {"ready"}
    assert running(family) == []
    assert marked(product.home) == []
    assert current_status(product.home).state is StackState.STOPPED


async def has_all(product: Product, ledger: Ledger) -> bool:
    return stored(product).has(ledger)
