"""A thousand swaps under streaming load, on two vLLM engines: `make bench-swap`, into .thumbwheel/bench/swap.json.

Each swap is the whole of it: publish a version nobody has seen, ask for its promotion, load and verify it on both
replicas, flip the table, drain the version before it; the one before that is unloaded meanwhile. The product is started
by its command, as a user would. Every streamed answer must be, token by token, what the version that it names answers
by the trainer's own model; no two versions share an answer. A swap's time is the registry's own, from the wish to done.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from infra.console import err, print_json
from infra.database.tables import RolloutRow
from infra.ports import Ports
from infra.registry import fleet, rollouts, wishes
from infra.registry.rollouts import FINAL_STATES, RolloutState
from infra.registry.wishes import Wish
from infra.stack import current_status
from serving.world import TRAINING_SLOTS
from tests.bench.swap_load import Load, streaming
from tests.bench.swap_versions import Made, make_versions
from tests.support.product import Product, running_product
from tests.support.tiny_model import make_tiny_model
from tests.support.versions import publish_made
from trainer.model import load_base

RESULT = Path(".thumbwheel/bench/swap.json")
REPLICAS = 2
SLOTS = 2  # beside those for training: the champion and its successor, so that each swap unloads one
LOOK_S = 0.01
SAMPLES = 100  # of memory
SWAP_S = 120
WATCHED = (*(f"replica-{number}" for number in range(REPLICAS)), "gateway", "controller")
SETTINGS = {
    "THUMBWHEEL_SERVING__REPLICAS": str(REPLICAS),
    "THUMBWHEEL_SERVING__MAX_LORAS": str(SLOTS + TRAINING_SLOTS),
    "THUMBWHEEL_SERVING__KV_CACHE_GIB": "0.1",
}
MB = 1e6


class SwapFailed(Exception):
    """A rollout did not end as done, or an engine kept what it should have let go of."""


@dataclass
class Figures:
    """Of every swap: milliseconds from the wish to the flip, and from there to done; and memory by process."""

    flip_ms: list[float] = field(default_factory=list)
    drain_ms: list[float] = field(default_factory=list)
    sampled_at: list[int] = field(default_factory=list)
    rss_mb: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in WATCHED})

    @property
    def swap_ms(self) -> list[float]:
        return [flip + drain for flip, drain in zip(self.flip_ms, self.drain_ms, strict=True)]

    def time(self, row: RolloutRow) -> None:
        assert row.flipped_at and row.finished_at
        self.flip_ms.append((row.flipped_at - row.requested_at).total_seconds() * 1000)
        self.drain_ms.append((row.finished_at - row.flipped_at).total_seconds() * 1000)

    def weigh(self, product: Product, swap: int) -> None:
        self.sampled_at.append(swap)
        status = current_status(product.home)
        for name in WATCHED:
            process = psutil.Process(status.processes[name].pid)
            family = [process, *process.children(recursive=True)]
            self.rss_mb[name].append(round(sum(member.memory_info().rss for member in family) / MB, 1))


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        result = run(Path(scratch), options.swaps, options.users)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print_json({name: value for name, value in result.items() if not name.startswith("rss")})
    return 0 if result["failed"] == result["mixed"] == 0 else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--users", type=int, default=6)
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args(arguments)


def run(scratch: Path, swaps: int, users: int) -> dict[str, Any]:
    model = make_tiny_model(scratch / "model")
    err().print(f"making {swaps} versions")
    versions = list(make_versions(load_base(model), scratch / "made", swaps + 1))
    with running_product(scratch / "home", model, **SETTINGS) as product:
        ports = product.ports()
        figures = Figures()
        load = Load(product.address, product.keys["client"], {made.version: made.answers for made in versions})
        seconds = asyncio.run(swap_all(product, ports, versions, load, figures, users))
        ports.close()
    return report(figures, load, seconds)


async def swap_all(
    product: Product, ports: Ports, versions: Sequence[Made], load: Load, figures: Figures, users: int
) -> float:
    """Seconds that all swaps took. Users come with the first version: the base says nothing of its own here."""
    await asyncio.to_thread(swap, ports, versions[0])
    every = max(1, (len(versions) - 1) // SAMPLES)
    began = time.monotonic()
    async with streaming(load, users):
        for number, made in enumerate(versions[1:], start=1):
            figures.time(await asyncio.to_thread(swap, ports, made))
            if number % every == 0:
                figures.weigh(product, number)
            if number % (every * 10) == 0:
                err().print(f"{number} swaps, {load.requests} answers, {load.failed} failed, {load.mixed} mixed")
    await asyncio.to_thread(check_slots, ports, {made.version for made in versions[-SLOTS:]})
    return time.monotonic() - began


def swap(ports: Ports, made: Made) -> RolloutRow:
    """Returns the rollout once it is done. Raises SwapFailed."""
    rollout_id = ask(ports, publish_made(ports, made.directory, made.manifest))
    shutil.rmtree(made.directory)
    deadline = time.monotonic() + SWAP_S
    while (row := look(ports, rollout_id)).state not in FINAL_STATES:
        if time.monotonic() > deadline:
            raise SwapFailed(f"{made.version} is {row.state} after {SWAP_S} s")
        time.sleep(LOOK_S)
    if row.state != RolloutState.DONE:
        raise SwapFailed(f"{made.version} is {row.state}: {row.error}")
    return row


def ask(ports: Ports, version: str) -> str:
    with ports.database.transaction() as session:
        table = fleet.routing_table(session)
        assert table is not None
        champion = table.aliases["assistant"].champion
        row = wishes.promote(session, Wish(version, champion, "bench", "swap"))
        return row.rollout_id


def look(ports: Ports, rollout_id: str) -> RolloutRow:
    with ports.database.reading() as session:
        return rollouts.get(session, rollout_id)


def check_slots(ports: Ports, allowed: set[str]) -> None:
    """Raises SwapFailed where an engine still counts a version of long ago as verified."""
    with ports.database.reading() as session:
        kept = {version for replica in fleet.replicas(session) for version in replica.versions}
    if strays := kept - allowed - {"base"}:
        raise SwapFailed(f"still loaded: {sorted(strays)}")


def report(figures: Figures, load: Load, seconds: float) -> dict[str, Any]:
    totals = [round(sum(at), 1) for at in zip(*figures.rss_mb.values(), strict=True)]
    return {
        "swaps": len(figures.flip_ms),
        "requests": load.requests,
        "failed": load.failed,
        "mixed": load.mixed,
        **percentiles("", figures.swap_ms),
        **percentiles("flip_", figures.flip_ms),
        **percentiles("drain_", figures.drain_ms),
        "versions_answered": len(load.served),
        "seconds": round(seconds, 1),
        "faults": load.faults,
        "grown_mb": {name: grown(figures.sampled_at, at) for name, at in figures.rss_mb.items()},
        "rss_mb": totals,
        "rss_at_swap": figures.sampled_at,
        "rss_parts_mb": figures.rss_mb,
    }


def percentiles(prefix: str, found: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(found, n=100, method="inclusive")
    return {f"{prefix}p50_ms": round(cuts[49], 1), f"{prefix}p99_ms": round(cuts[98], 1)}


def grown(swaps: Sequence[int], rss_mb: Sequence[float]) -> float:
    """From the first tenth of the swaps on: before that caches fill. The means of the first and last tenth after it."""
    settled = [mb for swap, mb in zip(swaps, rss_mb, strict=True) if swap * 10 >= swaps[-1]]
    tenth = max(1, len(settled) // 10)
    return round(statistics.fmean(settled[-tenth:]) - statistics.fmean(settled[:tenth]), 1)


if __name__ == "__main__":
    sys.exit(main())
