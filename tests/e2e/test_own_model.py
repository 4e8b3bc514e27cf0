"""`thumbwheel up --model DIR` with a Qwen2 that others made: it answers, takes votes, goes through a whole cycle."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.base_model import base_revision
from serving.gates import OWN
from tests.support.foreign_model import make_foreign_model
from tests.support.ledger import until
from tests.support.product import Product, running_product
from tests.support.visitor import Visitor, choose_often

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.timeout(600)]

SETTINGS = {
    "min_pairs": 20, "judge_share": 0.5, "reward_learning_rate": 1e-3, "policy_learning_rate": 1e-3,
    "policy_steps": 3, "policy_prompts": 4, "policy_samples": 4, "policy_max_new_tokens": 16, "max_length": 128,
    "evaluate_prompts": 8,
}  # fmt: skip
EXIT_CODES = {"accepted": 0, "blocked": 1, "awaiting_person": 2}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_foreign_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Product]:
    with running_product(tmp_path_factory.mktemp("own") / "home", model) as running:
        yield running


@pytest.fixture(scope="module")
def cycle(product: Product) -> dict[str, Any]:
    """One, by hand, on the votes of a dozen people."""
    choose_often(product)
    settings = [word for name, value in SETTINGS.items() for word in ("--set", f"{name}={value}")]
    code, printed, said = product.run("cycle", "trigger", *settings, "--reason", "by hand", "--wait", "--json")
    found = dict(json.loads(printed or "{}"))
    assert EXIT_CODES.get(found.get("state", "")) == code, said + printed
    return found


def test_it_answers_and_streams_in_its_own_template(product: Product) -> None:
    visitor = Visitor(product)
    answer = visitor.ask("Was ist die Würde?")
    assert answer.model == "base"
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    with visitor.sdk() as sdk:
        question = [{"role": "user", "content": "你好"}]
        chunks = list(sdk.chat.completions.create(model="assistant", messages=question, max_tokens=8, stream=True))  # type: ignore[call-overload]
    assert {chunk.model for chunk in chunks} == {"base"}


def test_a_correction_is_taken(product: Product) -> None:
    visitor = Visitor(product, "bob")
    assert visitor.correct(visitor.ask().id, "It returns the cosine.")


def test_a_cycle_goes_to_its_end_with_a_report_of_every_gate(product: Product, cycle: dict[str, Any]) -> None:
    report = json.loads(product.run("gate", "check", cycle["version"], "--json").printed)
    assert {gate["name"] for gate in report["gates"]} == OWN.keys()
    verdicts = {gate["name"]: gate["verdict"] for gate in report["gates"]}
    assert verdicts["validity"] == "pass", report
    assert set(cycle["seconds"]) >= {"snapshotting", "reward", "policy", "evaluating", "gating"}


def test_the_adapter_names_the_base_it_was_made_for(product: Product, model: Path, cycle: dict[str, Any]) -> None:
    shown = json.loads(product.command("adapter", "show", cycle["version"], "--json"))
    assert shown["manifest"]["base_revision"] == base_revision(model)
    assert product.run("adapter", "check", cycle["version"]).code == 0


async def test_a_person_may_promote_it_past_its_steps_and_roll_it_back(product: Product, cycle: dict[str, Any]) -> None:
    visitor, version = Visitor(product), cycle["version"]

    async def answers(wanted: str) -> bool:
        return visitor.ask().model == wanted

    async def promoted() -> bool:
        """Refused while it is being loaded, which it is by itself where it passed its gates."""
        product.run("promote", version, "--reason", "a try", "--wait")
        return await answers(version)

    await until(promoted, timeout_s=90, what="the new version answers")
    product.command("rollback", "--reason", "enough of it", "--wait")
    await until(lambda: answers("base"), timeout_s=30, what="the base answers again")
