"""From a rollback's command to the last request that began on the old version: `make bench-rollback`.

The whole product with a real engine, four gateway processes, and clients that ask each of them all the time. Every
rollback goes by the operators' API; some go by the command, whose own start counts too.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
from rich.progress import track

from infra.console import err, print_json, print_table
from tests.support.live_rollouts import going_on, operator
from tests.support.product import Product, free_port, running_product
from tests.support.tiny_model import make_tiny_model
from tests.support.versions import publish_version
from trainer.model import load_base

RESULT = Path(".thumbwheel/bench/rollback.json")
GATEWAYS = 4
BY_COMMAND = 0.1  # of the rollbacks
SETTLED = 5  # answers of the new version from each gateway, one after the other
START_S = 60
ASK = {"model": "assistant", "messages": [{"role": "user", "content": "math.cos"}], "max_tokens": 1}


@dataclass
class Clients:
    """Ask without a pause; `seen` are (gateway, when a request began, who answered it), `failed` are the others."""

    addresses: list[str]
    key: str
    seen: list[tuple[int, float, str]] = field(default_factory=list)
    failed: int = 0

    async def ask(self, number: int) -> None:
        headers = {"authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(base_url=self.addresses[number], headers=headers, timeout=60) as client:
            while True:
                began = time.perf_counter()
                answer = await client.post("/v1/chat/completions", json=ASK)
                if answer.status_code == 200:
                    self.seen.append((number, began, answer.json()["model"]))
                else:
                    self.failed += 1

    async def settled_on(self, version: str) -> None:
        """Every gateway answers by it."""
        while not all(self._last(number) == [version] * SETTLED for number in range(len(self.addresses))):
            await asyncio.sleep(0.02)

    def last_of(self, version: str, since: float) -> float:
        """Seconds from `since` to the last request that began after it and that this version answered; 0 for none."""
        return max((began - since for _, began, by in self.seen if by == version and began > since), default=0.0)

    def _last(self, number: int) -> list[str]:
        return [by for gateway, _, by in self.seen[-200:] if gateway == number][-SETTLED:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollbacks", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with TemporaryDirectory() as directory:
        result = asyncio.run(measure(Path(directory), arguments.rollbacks))
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1))
    print_json(result) if arguments.json else print_table(("figure", "value"), result.items())
    return 0


async def measure(directory: Path, rollbacks: int) -> dict[str, Any]:
    model = make_tiny_model(directory / "model")
    with ExitStack() as stack:
        product = stack.enter_context(running_product(directory / "home", model))
        addresses = [product.address, *(stack.enter_context(another_gateway(product)) for _ in range(GATEWAYS - 1))]
        versions = publish(product, model, directory)
        clients = Clients(addresses, product.keys["client"])
        async with going_on(map(clients.ask, range(GATEWAYS))), operator(product) as admin:
            by_api, by_command = await _rollbacks(product, admin, clients, versions, rollbacks)
    return {
        "gateways": GATEWAYS, "rollbacks": rollbacks, "requests": len(clients.seen), "failed": clients.failed,
        **_percentiles("api", by_api), **_percentiles("command", by_command),
    }  # fmt: skip


async def _rollbacks(
    product: Product, admin: httpx.AsyncClient, clients: Clients, versions: tuple[str, str], rollbacks: int
) -> tuple[list[float], list[float]]:
    """Seconds of each, by the API and by the command."""
    good, bad = versions
    await promote(admin, clients, good)
    by_api, by_command = list[float](), list[float]()
    every = round(1 / BY_COMMAND)
    for number in track(range(rollbacks), description="rollbacks", console=err()):
        await promote(admin, clients, bad)
        began = time.perf_counter()
        if number % every == every - 1:
            await asyncio.to_thread(product.command, "rollback", "--to", good, "--reason", "bench")
        else:
            answer = await admin.post("/rollouts:rollback", json={"version": good, "reason": "bench"})
            answer.raise_for_status()
        await clients.settled_on(good)
        (by_command if number % every == every - 1 else by_api).append(clients.last_of(bad, began))
    return by_api, by_command


async def promote(admin: httpx.AsyncClient, clients: Clients, version: str) -> None:
    """Returns once everybody is answered by it, and its rollout has ended."""
    wish = {"version": version, "reason": "bench", "force": True}
    while (answer := await admin.post("/rollouts:promote", json=wish)).status_code == 409:
        await asyncio.sleep(0.05)  # the one before is draining
    answer.raise_for_status()
    rollout = f"/rollouts/{answer.json()['rollout_id']}"
    while (await admin.get(rollout)).json()["state"] != "done":
        await asyncio.sleep(0.02)
    await clients.settled_on(version)


def publish(product: Product, model: Path, directory: Path) -> tuple[str, str]:
    ports, base = product.ports(), load_base(model)
    first, second = (publish_version(ports, base, directory / f"made-{seed}", seed=seed) for seed in (1, 2))
    ports.close()
    return first, second


@contextmanager
def another_gateway(product: Product) -> Iterator[str]:
    """Beside the stack's own, over the same state; its address, once it answers."""
    port = free_port()
    environment = product.environment | {"THUMBWHEEL_GATEWAY__PORT": str(port)}
    with (product.home / "logs" / f"gateway-{port}.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "gateway.main"], env=environment, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        _await_ready(address, process)
        yield address
    finally:
        process.terminate()
        process.wait()


def _await_ready(address: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{address}/readyz").status_code == 200:
                return
        except httpx.ConnectError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"the gateway at {address} did not come up (exit {process.poll()})")


def _percentiles(name: str, seconds: list[float]) -> dict[str, float | None]:
    if not seconds:
        return {f"{name}_{figure}_ms": None for figure in ("p50", "p99", "max")}
    p50, p99, most = np.percentile(seconds, [50, 99, 100]) * 1000
    return {f"{name}_p50_ms": round(p50, 1), f"{name}_p99_ms": round(p99, 1), f"{name}_max_ms": round(most, 1)}


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
