"""Rollouts of the running product: its steps, what the operators' API tells of them, and people who go on asking."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx

from infra.contracts.rollouts import Step
from tests.support.product import Product, running_product


@contextmanager
def stepped_product(
    home: Path, model: Path, steps: Sequence[Step], *, look_s: float, **environ: str
) -> Iterator[Product]:
    """Its rollouts go by these steps."""
    settings = {
        "THUMBWHEEL_SERVING__ROLLOUT_STEPS": json.dumps([step.model_dump(mode="json") for step in steps]),
        "THUMBWHEEL_SERVING__LOOK_S": str(look_s),
    }
    with running_product(home, model, **settings, **environ) as product:
        yield product


@asynccontextmanager
async def operator(product: Product) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {product.keys['admin']}"}
    async with httpx.AsyncClient(base_url=f"{product.address}/admin/v1", headers=headers, timeout=60) as client:
        yield client


async def told(admin: httpx.AsyncClient, path: str) -> dict[str, Any]:
    found: dict[str, Any] = (await admin.get(path)).raise_for_status().json()
    return found


def failed(rollout: dict[str, Any]) -> set[str]:
    """Monitors that spoke against it at the last look."""
    return {finding["name"] for finding in rollout["look"]["findings"] if finding["verdict"] == "fail"}


@asynccontextmanager
async def going_on(works: Iterable[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """All of them at once, as long as the block lasts; raises where one broke off before."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for error in ended:
        if not isinstance(error, asyncio.CancelledError):
            raise RuntimeError(f"somebody stopped asking: {error!r}") from error
