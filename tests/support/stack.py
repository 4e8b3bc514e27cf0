"""A small stack for tests: a state directory with a migrated database, keys, a routing table, and a gateway over it."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from gateway.app import make_app
from infra.clock import now
from infra.contracts.events import FEEDBACK_TOPIC, INFERENCE_TOPIC, Envelope, Feedback, Inference
from infra.contracts.routing import AliasRoute, Arm, Replica, ReplicaState, RoutingTable, WeightedVersion
from infra.identity import new_key
from infra.ports import Ports
from infra.registry import fleet, keys, leases
from infra.registry.keys import Scope
from infra.settings import Settings, load_settings, variable
from tests.support.home import put_database

TENANT = "default"
ALIAS = "assistant"


@dataclass
class Stack:
    """The ports and keys of one state directory. `settings` are overrides by section, also for subprocesses."""

    ports: Ports
    client_key: str
    admin_key: str
    overrides: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.ports.home

    def add_key(self, *scopes: Scope, tenant: str = TENANT, name: str = "another") -> str:
        key = new_key()
        with self.ports.database.transaction() as session:
            keys.add(session, key, tenant=tenant, name=name, scopes=scopes, actor="test")
        return key

    def publish(
        self,
        *,
        engines: Sequence[str] = (),
        versions: dict[str, float] | None = None,
        loaded: Sequence[str] = (),
        previous: Sequence[str] = (),
        state: ReplicaState = ReplicaState.READY,
        salt: str = "salt",
        **route: Any,
    ) -> RoutingTable:
        """The next routing table: the first of `versions` (weights by name) is the champion, all are loaded.

        `route` are further fields of the alias' route, such as `pairs`.
        """
        weights = versions or {"base": 1.0}
        with self.ports.database.transaction() as session:
            lease = leases.acquire(session, "controller", "test", 60)
            assert lease is not None
            table = RoutingTable(
                revision=fleet.routing_revision(session) + 1,
                issued_at=now(),
                aliases={ALIAS: make_route(weights, previous=previous, salt=salt).model_copy(update=route)},
                replicas=[
                    make_replica(f"replica-{at}", address, [*weights, *previous, *loaded], state)
                    for at, address in enumerate(engines)
                ],
            )
            fleet.publish_routing(session, lease, table)
        return table

    def inferences(self) -> list[Inference]:
        return [body for _, body in self.inference_events()]

    def inference_events(self) -> list[tuple[Envelope, Inference]]:
        """What the log holds, opened."""
        return [(e, self.ports.sealer.open(e, Inference)) for e in self._envelopes(INFERENCE_TOPIC)]

    def feedback_events(self) -> list[tuple[Envelope, Feedback]]:
        return [(e, self.ports.sealer.open(e, Feedback)) for e in self._envelopes(FEEDBACK_TOPIC)]

    def _envelopes(self, topic: str) -> list[Envelope]:
        consumer = self.ports.eventlog.consumer(f"test-{time.time_ns()}", [topic])
        found: list[Envelope] = []
        while records := consumer.poll(1000, 0.05):
            found += [Envelope.model_validate_json(record.value) for record in records]
        consumer.close()
        return sorted(found, key=lambda e: (e.occurred_at, e.event_id))  # the log keeps the order of a partition only

    @contextmanager
    def gateway_process(self, **environment: str) -> Iterator["GatewayProcess"]:
        """The gateway as the supervisor starts it."""
        started = GatewayProcess(self, environment)
        try:
            yield started
        finally:
            started.end()


class GatewayProcess:
    """`python -m gateway.main` on a free port; its output is in `home/gateway.out`."""

    def __init__(self, stack: Stack, environment: dict[str, str] | None = None) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        overrides = {variable(s, n): str(v) for s, names in stack.overrides.items() for n, v in names.items()}
        own = {"THUMBWHEEL_HOME": str(stack.home), variable("gateway", "port"): str(self.port)}
        self.started_at = time.monotonic()
        with (stack.home / "gateway.out").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway.main"],
                env={**os.environ, **overrides, **own, **(environment or {})},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_ready(self, timeout_s: float = 60, path: str = "/readyz") -> float:
        """Seconds from the start."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}{path}", timeout=1).status_code == 200:
                    return time.monotonic() - self.started_at
            except httpx.TransportError:
                pass
            assert self.process.poll() is None, "the gateway ended"
            time.sleep(0.02)
        raise AssertionError(f"the gateway was not ready after {timeout_s} s")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def end(self) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def make_stack(home: Path, **overrides: dict[str, Any]) -> Stack:
    """`overrides` are settings by section: `gateway={"routing_poll_s": 0.02}`."""
    environment = {variable(s, n): _written(v) for s, names in overrides.items() for n, v in names.items()}
    settings: Settings = load_settings(home, environment)
    put_database(home)
    ports = Ports(settings)
    stack = Stack(ports, "", "", overrides)
    stack.client_key = stack.add_key(Scope.CHAT, Scope.FEEDBACK, name="client")
    stack.admin_key = stack.add_key(*Scope, name="admin")
    return stack


def make_route(weights: dict[str, float], *, previous: Sequence[str] = (), salt: str = "salt") -> AliasRoute:
    versions = [
        WeightedVersion(version=version, arm=Arm.CHALLENGER if at else Arm.CHAMPION, weight=weight)
        for at, (version, weight) in enumerate(weights.items())
    ]
    return AliasRoute(alias=ALIAS, base_revision="base-rev", versions=versions, previous=list(previous), salt=salt)


def make_replica(
    name: str, address: str, versions: Sequence[str] = (), state: ReplicaState = ReplicaState.READY
) -> Replica:
    return Replica(
        name=name,
        address=address,
        base_revision="base-rev",
        served_model="base",
        state=state,
        versions=list(versions),
        max_model_len=1024,
    )


@asynccontextmanager
async def running_gateway(stack: Stack) -> AsyncIterator[str]:
    """The gateway in this process and event loop; yields its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(
        make_app(stack.ports, url), http="httptools", ws="none", lifespan="on", log_config=None, access_log=False,
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not server.started:
            assert not serving.done(), serving
            await asyncio.sleep(0.005)
        yield url
    finally:
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are pytest's."""
        yield


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _written(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)
