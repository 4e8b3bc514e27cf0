"""`thumbwheel replica list|drain|undrain` as a person types them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from infra.ports import Ports
from infra.registry import audit, fleet
from infra.registry.errors import NotFound
from serving.commands import register
from tests.support.home import make_ports
from tests.support.routing import make_replica


@pytest.fixture
def ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ports]:
    made = make_ports(tmp_path / "home")
    monkeypatch.setenv("THUMBWHEEL_HOME", str(made.home))
    with made.database.transaction() as session:
        fleet.report_replica(session, make_replica(address="http://127.0.0.1:9", versions=["base", "v1"]))
        fleet.report_replica(session, make_replica(name="gpu-1:8000", address="http://127.0.0.1:9", discovered=True))
    yield made
    made.close()


def run(*words: str) -> Result:
    root = typer.Typer()
    register(root)
    return CliRunner().invoke(root, ["replica", *words], catch_exceptions=False)


def drained(ports: Ports) -> dict[str, bool]:
    with ports.database.reading() as session:
        return {replica.name: replica.drain for replica in fleet.replicas(session)}


def test_the_list_tells_what_each_has_verified_and_that_a_silent_one_works_on_nothing_known(ports: Ports) -> None:
    found = {row["name"]: row for row in json.loads(run("list", "--json").stdout)}
    assert found["replica-0"]["versions"] == ["base", "v1"]
    assert (found["gpu-1:8000"]["discovered"], found["gpu-1:8000"]["requests"]) == (True, None)


def test_the_table_names_every_replica(ports: Ports) -> None:
    shown = run("list").output
    assert "replica-0" in shown
    assert "gpu-1:8000" in shown


def test_a_wish_to_drain_is_kept_until_it_is_taken_back_and_each_is_audited(ports: Ports) -> None:
    assert run("drain", "replica-0", "--reason", "a new card").exit_code == 0
    assert drained(ports) == {"replica-0": True, "gpu-1:8000": False}
    assert run("undrain", "replica-0", "--reason", "it is in", "--json").exit_code == 0
    assert drained(ports)["replica-0"] is False
    with ports.database.reading() as session:
        actions = [
            (entry.action, entry.reason) for entry in audit.list_entries(session, "default", subject="replica-0")
        ]
    assert actions == [("replica.undrain", "it is in"), ("replica.drain", "a new card")]


def test_a_name_that_nobody_has_is_told(ports: Ports) -> None:
    with pytest.raises(NotFound, match="there is no replica gone"):
        run("drain", "gone", "--reason", "?")
