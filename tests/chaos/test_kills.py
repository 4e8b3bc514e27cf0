"""`kill -9` of each process in turn, under load and while a cycle runs: the stack heals by itself, the cycle ends, and
the clients' books agree with the store."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from infra.database.tables import CycleRow
from infra.processes import is_alive
from infra.registry import cycles
from infra.registry.cycles import CycleState
from infra.stack import current_status
from tests.support.ledger import Ledger, keep_voting, stored, until
from tests.support.product import Product, running_product
from tests.support.tiny_model import make_tiny_model
from tests.support.visitor import Visitor, choose_often

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

CLIENTS = 4
HEAL_TIMEOUT_S = 180
CYCLE_TIMEOUT_S = 240
SETTINGS = {
    "trainer__min_pairs": 10, "trainer__policy_steps": 6, "trainer__policy_prompts": 8, "trainer__policy_samples": 4,
    "trainer__policy_max_new_tokens": 24, "trainer__max_length": 128, "trainer__evaluate_prompts": 8,
    "trainer__judge_share": 0.5, "infra__lease_ttl_s": 5,
}  # fmt: skip
ENVIRON = {f"THUMBWHEEL_{name.upper()}": str(value) for name, value in SETTINGS.items()}
ORDER = [state.value for state in CycleState]
KILLS = (  # who is killed as soon as the cycle is there: its owner, or whom the owner needs
    ("snapshotting", "feedback"),
    ("reward", "trainer"),
    ("policy", "replica-0"),
    ("policy", "training"),
    ("policy", "gateway"),
    ("gating", "controller"),
)
ENDS = {"accepted", "blocked", "awaiting_person"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def product(tmp_path: Path, model: Path) -> Iterator[Product]:
    with running_product(tmp_path / "home", model, **ENVIRON) as running:
        yield running


async def test_every_process_may_be_killed_and_nothing_that_was_acknowledged_is_lost(
    product: Product, model: Path
) -> None:
    ledger = Ledger()
    chosen = await asyncio.to_thread(choose_often, product)
    async with voting(product, ledger):
        await progress(ledger, 10)
        trigger = json.loads(await asyncio.to_thread(product.command, "cycle", "trigger", "--json"))
        for state, victim in KILLS:
            await until(lambda: has_reached(product, trigger["cycle_id"], state), timeout_s=CYCLE_TIMEOUT_S, what=state)  # noqa: B023
            await kill(product, victim)
            await progress(ledger, 10)
        await until(lambda: has_ended(product, trigger["cycle_id"]), timeout_s=CYCLE_TIMEOUT_S, what="the cycle ended")
        version = await promoted(product, trigger["cycle_id"])
        await kill_the_supervisor(product)
        await asyncio.to_thread(product.command, "up", "--detach", "--model", str(model))
        await progress(ledger, 10)
    assert (await asyncio.to_thread(Visitor(product).ask)).model == version
    await agree(product, ledger, chosen)


@asynccontextmanager
async def voting(product: Product, ledger: Ledger) -> AsyncIterator[None]:
    """Clients that chat and vote for as long as the block lasts, and then bring what they have begun to its end."""
    clients = [asyncio.create_task(keep_voting(product, ledger, f"user-{n}")) for n in range(CLIENTS)]
    try:
        yield
        ledger.stop.set()
        await asyncio.gather(*clients)
    finally:
        for client in clients:
            client.cancel()


async def progress(ledger: Ledger, more: int) -> None:
    """Waits until that many more votes are acknowledged."""
    goal = len(ledger.votes) + more

    async def reached() -> bool:
        return len(ledger.votes) >= goal

    await until(reached, timeout_s=HEAL_TIMEOUT_S, what=f"{more} more votes")


async def kill(product: Product, victim: str) -> None:
    """And waits until it is back. A training is started again by its worker, which the cycle's end shows."""
    if victim == "training":
        await until(lambda: kill_training(product), timeout_s=HEAL_TIMEOUT_S, what="a training to kill")
        return
    killed = product.kill(victim)
    await until(lambda: healed(product, victim, killed), timeout_s=HEAL_TIMEOUT_S, what=f"{victim} is back")


async def kill_training(product: Product) -> bool:
    """Whether there was one. It is the worker's only child."""
    worker = current_status(product.home).processes["trainer"].pid
    try:
        found = psutil.Process(worker).children()
        for child in found:
            child.kill()
    except psutil.NoSuchProcess:
        return False
    return bool(found)


async def kill_the_supervisor(product: Product) -> None:
    """Its children end with it."""
    status = current_status(product.home)
    os.kill(status.pid, signal.SIGKILL)

    async def gone() -> bool:
        return not is_alive(status.supervisor)

    await until(gone, timeout_s=HEAL_TIMEOUT_S, what="the supervisor is gone")


async def healed(product: Product, process: str, old_pid: int) -> bool:
    found = (await asyncio.to_thread(product.processes))[process]
    return found["state"] == "ready" and found["pid"] != old_pid


async def state_of(product: Product, cycle_id: str) -> str:
    return (await asyncio.to_thread(cycle_row, product, cycle_id)).state


def cycle_row(product: Product, cycle_id: str) -> CycleRow:
    ports = product.ports()
    try:
        with ports.database.reading() as session:
            return cycles.get(session, cycle_id)
    finally:
        ports.close()


async def has_reached(product: Product, cycle_id: str, state: str) -> bool:
    return ORDER.index(await state_of(product, cycle_id)) >= ORDER.index(state)


async def has_ended(product: Product, cycle_id: str) -> bool:
    return await state_of(product, cycle_id) in cycles.FINAL_STATES


async def promoted(product: Product, cycle_id: str) -> str:
    """The cycle's version, which answers from now on, whatever its gates said of it."""
    row = await asyncio.to_thread(cycle_row, product, cycle_id)
    assert row.state in ENDS, f"{row.state}: {row.reason}"
    if row.state != CycleState.ACCEPTED:
        await asyncio.to_thread(product.command, "promote", row.version or "", "--reason", "chaos", "--wait")
    return row.version or ""


async def agree(product: Product, ledger: Ledger, chosen: list[str]) -> None:
    """Every delivered answer and acknowledged vote is stored once, no vote that nobody cast, and each has joined."""

    async def caught_up() -> bool:
        return (await asyncio.to_thread(stored, product)).has(ledger)

    await until(caught_up, timeout_s=60, what="the store caught up")
    found = await asyncio.to_thread(stored, product)
    assert ledger.delivered <= found.inferences
    assert sorted(found.votes) == sorted([*ledger.votes.values(), *chosen])
    assert found.unjoined == 0
