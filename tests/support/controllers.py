"""A serving controller over a real registry and artifact store; versions and cycles as a trainer would leave them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
from prometheus_client import CollectorRegistry

from infra.contracts.manifests import Evidence, Interval, OffPolicy, SmokeCase
from infra.contracts.routing import Replica, ReplicaState, RoutingTable
from infra.ports import Ports
from infra.registry import adapters, cycles, fleet, leases, rollouts, wishes
from infra.registry.adapters import AdapterState
from infra.registry.cycles import CycleState
from infra.registry.wishes import Wish
from serving.controller import Controller
from serving.main import compose
from serving.metrics import Metrics
from tests.support.adapters import MadeAdapter, Spoil, publish
from tests.support.cycles import TRAINER_PATH, cycle_row

SMOKE = SmokeCase(token_ids=[5, 17, 33], logprobs=[-0.2, -1.1])
PATIENCE_S = 30.0  # a loaded machine must not make a test fail


@asynccontextmanager
async def controlling(ports: Ports) -> AsyncIterator[Controller]:
    """Leads in the background inside the block, as its process would."""
    stop, changed = asyncio.Event(), asyncio.Event()
    async with aiohttp.ClientSession() as session:
        controller = await asyncio.to_thread(compose, ports, session, changed, Metrics(CollectorRegistry()))
        running = asyncio.create_task(controller.run(stop))
        try:
            yield controller
        finally:
            stop.set()
            changed.set()
            await running


async def eventually(holds: Callable[[], object], what: str, *, timeout_s: float = PATIENCE_S) -> None:
    """Waits until it holds; fails saying what did not happen."""
    await until(lambda: asyncio.to_thread(holds), what, timeout_s=timeout_s)


async def until(holds: Callable[[], Awaitable[object]], what: str, *, timeout_s: float = PATIENCE_S) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            while not await holds():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{what}: did not happen in {timeout_s:g} s") from None


def register_replica(ports: Ports, address: str, base_revision: str, name: str = "replica-0") -> None:
    """As an engine's process does before it becomes the engine."""
    replica = Replica(
        name=name, address=address, base_revision=base_revision, served_model="base", state=ReplicaState.STARTING
    )
    with ports.database.transaction() as session:
        fleet.report_replica(session, replica)


def accept(ports: Ports, made: MadeAdapter, evidence: Evidence | None = None) -> str:
    """Published, and past its gates."""
    version = publish(ports, made, evidence or make_evidence(made.version))
    with ports.database.transaction() as session:
        adapters.move(session, version, AdapterState.ACCEPTED)
    return version


def make_evidence(version: str, *, champion: str = "base", **overrides: object) -> Evidence:
    """Of a candidate that passes every gate against that champion."""

    def interval(lo: float, hi: float) -> Interval:
        return Interval(value=(lo + hi) / 2, lo=lo, hi=hi, n=100)

    fields: dict[str, object] = {
        "version": version,
        "champion": champion,
        "smoke": [SMOKE],
        "kl_anchor": interval(1, 2),
        "kl_champion": interval(0.1, 0.5),
        "judge_win_rate": interval(0.5, 0.7),
        "length_ratio": interval(0.9, 1.2),
        "judge_controlled": interval(0.45, 0.65),
        "probes": {"refusal": interval(-0.01, 0.02), "repetition": interval(-0.01, 0.02)},
        "reward_accuracy": interval(0.6, 0.8),
        "off_policy": OffPolicy(
            votes=200, effective_size=90, champion=interval(0.5, 0.6), difference=interval(-0.02, 0.1)
        ),
    }
    return Evidence.model_validate(fields | overrides)


def bring_to_gates(
    ports: Ports, made: MadeAdapter, evidence: Evidence | None = None, *, spoil: Spoil | None = None
) -> str:
    """What a trainer leaves: the version published, its cycle in gating; returns the cycle's id.

    `spoil` changes what the store holds before anybody can have read it. The cycle appears at its gates: in a running
    product another state would be somebody's work.
    """
    version = publish(ports, made, evidence or make_evidence(made.version))
    if spoil is not None:
        spoil(copy_in_store(ports, version))
    with ports.database.transaction() as session:
        cycle_id = cycles.trigger(session, tenant="default", alias="assistant", actor="test").cycle_id
        lease = leases.acquire(session, leases.cycle_lease(cycle_id), "test", 10)
        assert lease is not None
        for target in TRAINER_PATH:
            cycles.advance(session, lease, cycle_id, target)
        cycles.advance(session, lease, cycle_id, CycleState.GATING, version=version)
        adapters.get(session, version).cycle_id = cycle_id
        leases.release(session, lease)
    return cycle_id


def promote(ports: Ports, version: str, *, force: bool = False) -> str:
    """Asks for it; returns the rollout's id."""
    with ports.database.transaction() as session:
        wish = Wish(version, champion(ports), "test", "it is better", force=force)
        return wishes.promote(session, wish).rollout_id


def roll_back(ports: Ports, version: str) -> str:
    with ports.database.transaction() as session:
        wish = Wish(version, champion(ports), "test", "it is worse")
        return wishes.rollback(session, wish, tenant="default", alias="assistant").rollout_id


def routing(ports: Ports) -> RoutingTable | None:
    with ports.database.reading() as session:
        return fleet.routing_table(session)


def champion(ports: Ports) -> str:
    """`base` before the first table."""
    table = routing(ports)
    return table.aliases["assistant"].champion if table else "base"


def replica(ports: Ports, name: str = "replica-0") -> Replica:
    with ports.database.reading() as session:
        return next(row for row in fleet.replicas(session) if row.name == name)


def rollout_state(ports: Ports, rollout_id: str) -> str:
    with ports.database.reading() as session:
        return rollouts.get(session, rollout_id).state


def adapter_state(ports: Ports, version: str) -> str:
    with ports.database.reading() as session:
        return adapters.get(session, version).state


def cycle_state(ports: Ports, cycle_id: str) -> str:
    return cycle_row(ports, cycle_id).state


def copy_in_store(ports: Ports, version: str) -> Path:
    """Where the artifact store keeps it."""
    return ports.artifacts.local_path(f"adapters/{version}")
