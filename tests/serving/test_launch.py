"""How an engine is started, without starting one."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.base_model import base_revision
from infra.contracts.routing import ReplicaState
from infra.ports import Ports
from infra.registry import fleet
from infra.settings import ServingSettings
from serving import replica
from serving.errors import CannotStart
from serving.launch import Launch, Machine, longest, plan_launch
from tests.support.home import make_ports
from tests.support.model_files import make_model_files
from tests.support.tiny_model import make_tiny_model

CPU, GPU = Machine("cpu", cpus=4), Machine("gpu", cpus=16)


Plan = Callable[..., Launch]


@pytest.fixture
def launch(tmp_path: Path) -> Plan:
    """Of a machine (a CPU) and serving settings."""
    model = make_model_files(tmp_path / "any-model")

    def plan(machine: Machine = CPU, **settings: object) -> Launch:
        return plan_launch(ServingSettings.model_validate(settings), machine, model, 8000, "secret")

    return plan


def option(found: Launch, name: str) -> str:
    return found.arguments[found.arguments.index(f"--{name}") + 1]


def test_the_engine_says_the_base_is_base_and_computes_log_probabilities_of_what_was_sampled(launch: Plan) -> None:
    found = launch()
    assert option(found, "served-model-name") == "base"
    assert option(found, "logprobs-mode") == "processed_logprobs"
    assert option(found, "scheduling-policy") == "priority"
    assert option(found, "host") == "127.0.0.1"


def test_its_key_is_in_the_environment_and_never_in_the_arguments(launch: Plan) -> None:
    found = launch()
    assert found.environment["VLLM_API_KEY"] == "secret"
    assert "secret" not in " ".join(found.arguments)


def test_slots_leave_room_for_a_version_that_waits_for_its_unload(launch: Plan) -> None:
    found = launch(max_loras=6)
    assert int(option(found, "max-loras")) == 6
    assert int(option(found, "max-cpu-loras")) > 6


def test_an_engine_that_adapts_fewer_layers_is_told_which(launch: Plan) -> None:
    found = launch(lora_target_modules=["o_proj", "down_proj"]).arguments
    at = found.index("--lora-target-modules")
    assert found[at + 1 : at + 3] == ["o_proj", "down_proj"]
    assert "--lora-target-modules" not in launch().arguments


def test_a_cpu_computes_in_full_precision_unless_told_otherwise(launch: Plan) -> None:
    assert option(launch(CPU), "dtype") == "float32"
    assert option(launch(CPU, dtype="bfloat16"), "dtype") == "bfloat16"
    assert option(launch(GPU), "dtype") == "auto"


def test_only_the_cpu_build_is_told_how_to_share_its_cores(launch: Plan) -> None:
    assert launch(CPU).environment["OMP_NUM_THREADS"] == "3"
    assert "OMP_NUM_THREADS" not in launch(GPU).environment
    assert "--kv-cache-memory-bytes" not in launch(GPU).arguments


def test_the_context_is_no_longer_than_the_model_was_made_for(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 512}')
    assert longest(ServingSettings(max_model_len=1024), tmp_path) == 512
    assert longest(ServingSettings(max_model_len=256), tmp_path) == 256


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    made = make_ports(tmp_path / "home", THUMBWHEEL_SERVING__MODEL=str(make_model_files(tmp_path / "model")))
    yield made
    made.close()


def test_a_replica_registers_where_it_will_listen_before_it_becomes_the_engine(ports: Ports) -> None:
    found = replica.prepare(ports, "replica-0")
    with ports.database.reading() as session:
        [row] = fleet.replicas(session)
    assert row.state is ReplicaState.STARTING
    assert row.address.endswith(f":{option(found, 'port')}")
    assert found.environment["VLLM_API_KEY"] == ports.engine_key
    announced = json.loads((ports.home / "run" / "replica-0.json").read_text())
    assert (announced["pid"], announced["address"]) == (os.getpid(), row.address)


def test_one_of_the_next_model_serves_that_and_says_which_base_it_has(ports: Ports, tmp_path: Path) -> None:
    following = make_tiny_model(tmp_path / "following", seed=1)
    moving = ports.settings.serving.model_copy(update={"next_model": str(following)})
    found = replica.prepare(Ports(ports.settings.model_copy(update={"serving": moving})), "replica-1", is_next=True)
    with ports.database.reading() as session:
        [row] = fleet.replicas(session)
    assert (option(found, "model"), row.base_revision) == (str(following), base_revision(following))


def test_without_vllm_it_says_what_to_install(ports: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica, "this_machine", lambda: Machine(None, cpus=2))
    with pytest.raises(CannotStart, match="vLLM is not installed"):
        replica.prepare(ports, "replica-0")


def test_without_a_model_it_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match=r"serving\.model is not set"):
        replica.check_directory(ServingSettings())
    with pytest.raises(CannotStart, match=r"serving\.model: "):
        replica.check_directory(ServingSettings(model=str(tmp_path)))
    with pytest.raises(CannotStart, match=r"serving\.next_model: "):
        replica.check_directory(ServingSettings(next_model=str(tmp_path)), is_next=True)
    with pytest.raises(ValidationError, match="with next_replicas next_model must be set"):
        ServingSettings(next_replicas=1)


def test_too_little_memory_is_refused_with_what_is_needed(tmp_path: Path) -> None:
    model = make_model_files(tmp_path)
    with pytest.raises(CannotStart, match=r"needs about 3\.0 GiB of memory, 1\.0 GiB are free"):
        replica.check_memory(ServingSettings(), model, available=1 << 30)


def test_each_replica_has_a_port_of_its_own() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        first = free.getsockname()[1]
    assert replica.pick_port(first, "replica-0") == first
    assert replica.pick_port(0, "replica-1") > 0


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotStart, match=f"port {port} of replica-0 is taken"):
            replica.pick_port(port, "replica-0")


def test_its_process_ends_with_two_and_one_line_where_only_a_person_can_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("THUMBWHEEL_HOME", str(tmp_path))
    assert replica.main(["--name", "replica-0"]) == 2
    assert capsys.readouterr().err.strip() == "serving.model is not set: name the directory of a model"


def test_a_layer_that_the_model_has_not_is_named_before_anything_starts(tmp_path: Path) -> None:
    settings = ServingSettings(model=str(make_tiny_model(tmp_path / "model")), lora_target_modules=("query",))
    with pytest.raises(CannotStart, match=r"no linear layer query, which serving\.lora_target_modules names"):
        replica.check_directory(settings)
