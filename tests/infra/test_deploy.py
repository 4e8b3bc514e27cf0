"""The compose file names every part of the full profile, publishes nothing to the network and holds no secret."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.programs import programs
from infra.services.kafka import MAX_MESSAGE_BYTES, VERSION
from infra.settings import Settings, load_settings

FILE = Path(__file__).parents[2] / "infra" / "deploy" / "compose.yaml"
NEEDED = re.compile(r"\$\{([A-Z_]+):\?[^}]+\}")  # refuses to start without it
SECRET = re.compile(r"PASSWORD|SECRET|URL$")
SERVERS = {"kafka", "postgres", "redis"}
GIVEN = {
    "THUMBWHEEL_IMAGE": "thumbwheel", "MODEL": "/models/mine", "POSTGRES_PASSWORD": "one", "REDIS_PASSWORD": "two",
    "THUMBWHEEL_SECRET": "three",
}  # fmt: skip


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load(FILE.read_text()))


def filled(text: str) -> str:
    return NEEDED.sub(lambda found: GIVEN[found[1]], text)


def test_every_process_and_every_server_is_there(compose: dict[str, Any]) -> None:
    named = {" ".join(service.get("command", ())[1:]) for service in compose["services"].values()}
    for program in programs(Settings()):
        modules = {f"-m {' '.join(program.argv[2:])}", f"-m {program.argv[2]}"}  # the first consumer needs no name
        assert named & modules, program.name
    assert compose["services"].keys() >= SERVERS


def test_nothing_is_published_but_the_gateway_on_the_loopback_address(compose: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert published == {"gateway": ["127.0.0.1:${GATEWAY_PORT:-8080}:8080"]}
    assert all(service.get("network_mode") in (None, "service:gateway") for service in compose["services"].values())


def test_every_secret_must_be_given(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable):
                assert NEEDED.search(value), f"{name}: {variable} has a value of its own"
    assert set(NEEDED.findall(FILE.read_text())) == set(GIVEN)


def test_what_the_rooms_are_given_is_a_full_profile(compose: dict[str, Any], tmp_path: Path) -> None:
    environ = {name: filled(str(value)) for name, value in compose["services"]["engine"]["environment"].items()}
    infra = load_settings(tmp_path, environ).infra
    assert infra.profile == "full"
    assert infra.kafka_bootstrap_servers == ("kafka:9092",)
    assert infra.database_url.get_secret_value() == "postgresql+psycopg://thumbwheel:one@postgres:5432/thumbwheel"


def test_the_broker_is_the_one_that_is_tested(compose: dict[str, Any]) -> None:
    kafka = compose["services"]["kafka"]
    assert kafka["image"] == f"apache/kafka:{VERSION}"
    assert kafka["environment"]["KAFKA_MESSAGE_MAX_BYTES"] == MAX_MESSAGE_BYTES
    assert kafka["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def compose_client() -> list[str] | None:
    """Docker's own client, where this machine has one that knows compose."""
    if shutil.which("docker") is None:
        return None
    known = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    return ["docker", "compose"] if known else None


def test_dockers_own_client_reads_it_and_refuses_it_without_the_secrets() -> None:
    if (client := compose_client()) is None:
        pytest.skip("there is no `docker compose` here")
    command = [*client, "-f", str(FILE), "config", "--quiet"]
    bare = {name: value for name, value in os.environ.items() if name not in GIVEN}
    assert subprocess.run(command, env={**bare, **GIVEN}, capture_output=True, check=False).returncode == 0
    assert subprocess.run(command, env=bare, capture_output=True, check=False).returncode != 0
