"""`kill -9` of each process in turn, under load: the stack heals, and the clients' books agree with the store."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from feedback.tables import InferenceRow, VoteEventRow
from tests.support.ledger import Ledger, keep_voting, until
from tests.support.product import Product, running_product
from tests.support.tiny_model import make_tiny_model

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

VICTIMS = ("gateway", "feedback", "trainer", "controller", "replica-0")
CLIENTS = 6
HEAL_TIMEOUT_S = 180


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    with running_product(tmp_path / "home", make_tiny_model(tmp_path / "model")) as running:
        yield running


async def test_every_process_may_be_killed_and_nothing_that_was_acknowledged_is_lost(product: Product) -> None:
    ledger = Ledger()
    clients = [asyncio.create_task(keep_voting(product, ledger, f"user-{n}")) for n in range(CLIENTS)]
    for victim in VICTIMS:
        await progress(ledger, 10)
        killed = await asyncio.to_thread(product.kill, victim)
        await until(lambda: healed(product, victim, killed), timeout_s=HEAL_TIMEOUT_S, what=f"{victim} came back")  # noqa: B023
        await progress(ledger, 10)
    ledger.stop.set()
    await asyncio.gather(*clients)
    await until(lambda: stored_everything(product, ledger), timeout_s=60, what="the store caught up")
    inferences, votes = await asyncio.to_thread(stored, product)
    assert ledger.delivered <= inferences
    assert sorted(votes) == sorted(ledger.votes.values())


async def progress(ledger: Ledger, more: int) -> None:
    """Waits until that many more votes are acknowledged."""
    goal = len(ledger.votes) + more

    async def reached() -> bool:
        return len(ledger.votes) >= goal

    await until(reached, timeout_s=HEAL_TIMEOUT_S, what=f"{more} more votes")


async def healed(product: Product, process: str, old_pid: int) -> bool:
    found = (await asyncio.to_thread(product.processes))[process]
    return found["state"] == "ready" and found["pid"] != old_pid


async def stored_everything(product: Product, ledger: Ledger) -> bool:
    inferences, votes = await asyncio.to_thread(stored, product)
    return ledger.delivered <= inferences and set(ledger.votes.values()) <= set(votes)


def stored(product: Product) -> tuple[set[str], list[str]]:
    """(response ids of inference events, event ids of votes)."""
    ports = product.ports()
    with ports.database.reading() as session:
        inferences = set(session.scalars(select(InferenceRow.response_id)))
        votes = [plain(event_id) for event_id in session.scalars(select(VoteEventRow.event_id))]
    ports.close()
    return inferences, votes


def plain(event_id: str) -> str:
    """As the gateway writes it in `feedback_id`."""
    from uuid import UUID

    return str(UUID(event_id))
