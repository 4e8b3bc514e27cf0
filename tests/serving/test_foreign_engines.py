"""A real vLLM that somebody else started: found by a file, and known by what it computes, whatever it calls itself."""

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from infra.contracts.routing import ReplicaState
from infra.ports import Ports
from infra.processes import end
from infra.registry import fleet
from serving.launch import plan_launch, this_machine
from tests.bench.swap_load import Load, streaming
from tests.bench.swap_versions import Made, make_versions
from tests.support.controllers import eventually, promote, rollout_state, routing
from tests.support.product import Product, free_port, running_product
from tests.support.tiny_model import make_tiny_model
from tests.support.versions import publish_made
from trainer.model import load_base

pytestmark = [pytest.mark.engine, pytest.mark.e2e, pytest.mark.timeout(900)]

START_S = 240
USERS = 2
KV_CACHE_GIB = "0.1"


@dataclass
class Foreigner:
    """A vLLM at one address, stopped and started again by this test. `log` is where it writes."""

    ports: Ports
    model: Path
    log: Path
    port: int = field(default_factory=free_port)

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    @contextmanager
    def running(self, **loras: Path) -> Iterator[None]:
        """With `loras` in place from the start."""
        settings = self.ports.settings.serving
        launch = plan_launch(settings, this_machine(), self.model, self.port, self.ports.engine_key)
        given = ["--lora-modules", *(f"{name}={path}" for name, path in loras.items())] if loras else []
        with self.log.open("ab") as output:
            process = subprocess.Popen(
                [*launch.arguments, *given], env={**os.environ, **launch.environment}, stdout=output, stderr=output
            )
        try:
            self._wait(process)
            yield
        finally:
            family = psutil.Process(process.pid).children(recursive=True)
            end([psutil.Process(process.pid), *family], grace_s=10)
            process.wait(10)

    def _wait(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                if httpx.get(f"http://{self.name}/health", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                assert process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, "the engine did not start"
            time.sleep(0.2)

    def state(self) -> ReplicaState | None:
        """As the gateways see it."""
        table = routing(self.ports)
        return next((r.state for r in table.replicas if r.name == self.name), None) if table else None

    def verified(self) -> list[str]:
        with self.ports.database.reading() as session:
            return next((row.versions for row in fleet.replicas(session) if row.name == self.name), [])

    def loaded(self) -> list[str]:
        headers = {"Authorization": f"Bearer {self.ports.engine_key}"}
        found = httpx.get(f"http://{self.name}/v1/models", headers=headers, timeout=30).json()
        return [str(model["id"]) for model in found["data"]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def product(tmp_path: Path, model: Path) -> Iterator[Product]:
    (tmp_path / "replicas").write_text("[]")
    settings = {
        "THUMBWHEEL_SERVING__KV_CACHE_GIB": KV_CACHE_GIB,
        "THUMBWHEEL_SERVING__REPLICA_FILE": str(tmp_path / "replicas"),
        "THUMBWHEEL_SERVING__DISCOVERY_S": "0.2",
    }
    with running_product(tmp_path / "home", model, **settings) as running:
        yield running


async def test_an_engine_that_comes_back_with_tampered_weights_under_the_right_name_gets_no_traffic(
    product: Product, model: Path, tmp_path: Path
) -> None:
    right, wrong = make_versions(load_base(model), tmp_path / "made", 2)
    ports = product.ports()
    other = Foreigner(ports, model, tmp_path / "foreigner.log")
    (tmp_path / "replicas").write_text(other.name)
    version = publish_made(ports, right.directory, right.manifest)
    load = Load(product.address, product.keys["client"], {version: right.answers})
    with other.running():
        await eventually(lambda: other.state() is ReplicaState.READY, "it was taken in", timeout_s=60)
        rollout_id = promote(ports, version)
        await eventually(lambda: rollout_state(ports, rollout_id) == "done", "both serve it", timeout_s=60)
        assert version in other.verified()
    async with streaming(load, USERS):
        await eventually(lambda: other.state() is ReplicaState.DOWN, "its end was noticed", timeout_s=60)
        await asyncio.to_thread(stays_out, other, wrong, version, product.home / "logs" / "controller.log")
        answered = load.requests
        with other.running():
            await eventually(lambda: other.state() is ReplicaState.READY, "the right weights answer", timeout_s=60)
        await eventually(lambda: load.requests > answered, "answers went on")
    assert (load.failed, load.mixed, load.faults) == (0, 0, [])
    assert load.served[version] == load.requests > 0
    ports.close()


def stays_out(other: Foreigner, wrong: Made, version: str, log: Path) -> None:
    """It has been found wanting three times, and was never ready."""
    with other.running(**{version: wrong.directory}):
        assert version in other.loaded(), "it answers to the right name"
        deadline = time.monotonic() + 120
        while (refusals := count_refusals(log, version, other.name)) < 3:
            assert other.state() is not ReplicaState.READY
            assert version not in other.verified()
            assert time.monotonic() < deadline, f"{refusals} refusals"
            time.sleep(0.1)


def count_refusals(log: Path, version: str, replica: str) -> int:
    lines = (line for line in log.read_text().splitlines() if "version_refused" in line)
    return sum(version in line and replica in line and "nats from the trainer's" in line for line in lines)


async def test_an_engine_with_another_base_gets_no_traffic(product: Product, tmp_path: Path) -> None:
    ports = product.ports()
    another = make_tiny_model(tmp_path / "another", seed=1)
    other = Foreigner(ports, another, tmp_path / "foreigner.log")
    (tmp_path / "replicas").write_text(other.name)
    with other.running():
        log = product.home / "logs" / "controller.log"
        await eventually(lambda: "nats from this base's" in log.read_text(), "it was found out", timeout_s=60)
        assert other.state() is ReplicaState.STARTING
        body = {"model": "assistant", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
        headers = {"Authorization": f"Bearer {product.keys['client']}"}
        async with httpx.AsyncClient(headers=headers, timeout=60) as client:
            reply = await client.post(f"{product.address}/v1/chat/completions", json=body)
        assert reply.status_code == 200, "the own one answers"
    ports.close()
