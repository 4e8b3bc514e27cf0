"""One engine process: checks what it needs, says where it will listen, then becomes the engine by exec."""

import argparse
import os
import re
import socket
import sys
from pathlib import Path

import psutil
import structlog

from infra.base_model import NotAModel, base_revision, check_model
from infra.contracts.routing import BASE_VERSION, Replica, ReplicaState
from infra.database.schema import SchemaMismatch, await_schema
from infra.logs import configure_logging
from infra.ports import Ports
from infra.processes import announce
from infra.registry import fleet
from infra.settings import ServingSettings, SettingsError, load_settings
from serving.adapters import linear_layers
from serving.errors import CannotStart
from serving.launch import GIB, Launch, longest, plan_launch, this_machine
from serving.tensors import Unreadable

ENGINE_GIB = 2.0  # what vLLM itself holds with a tiny model
USAGE = 2  # exit code: something about the machine or the settings must change first

log = structlog.get_logger()


def main(arguments: list[str] | None = None) -> int:
    """Returns only where the engine can't be started."""
    options = _parse(arguments)
    try:
        settings = load_settings()
        configure_logging(settings.infra, process=options.name)
        launch = prepare(Ports(settings), options.name, is_next=options.next)
    except (SettingsError, CannotStart, SchemaMismatch) as error:
        print(error, file=sys.stderr)  # noqa: T201 - the supervisor shows the last line of what could not start
        return USAGE
    return os.execve(launch.arguments[0], launch.arguments, {**os.environ, **launch.environment})


def prepare(ports: Ports, name: str, *, is_next: bool = False) -> Launch:
    """Registers the replica and returns what to exec; raises CannotStart or SchemaMismatch."""
    settings = ports.settings.serving
    model = check_directory(settings, is_next=is_next)
    machine = this_machine()
    if machine.vllm is None:
        raise CannotStart("vLLM is not installed: install thumbwheel[engine-cpu] or [engine-gpu]")
    check_memory(settings, model, psutil.virtual_memory().available)
    port = pick_port(settings.engine_port, name)
    replica = Replica(
        name=name,
        address=f"http://127.0.0.1:{port}",
        base_revision=base_revision(model),
        served_model=BASE_VERSION,
        state=ReplicaState.STARTING,
        max_model_len=longest(settings, model),
    )
    await_schema(ports.database)
    with ports.database.transaction() as session:
        fleet.register_replica(session, replica)
    announce(ports.home, name, replica.address)
    log.info("engine_starting", address=replica.address, base_revision=replica.base_revision)
    launch = plan_launch(settings, machine, model, port, ports.engine_key)
    ports.close()
    return launch


def check_directory(settings: ServingSettings, *, is_next: bool = False) -> Path:
    """That of `serving.model`, or of `serving.next_model`; raises CannotStart."""
    named, given = ("serving.next_model", settings.next_model) if is_next else ("serving.model", settings.model)
    if not given:
        raise CannotStart(f"{named} is not set: name the directory of a model")
    try:
        model = check_model(Path(given).absolute())
        linear_layers(model, settings.lora_target_modules)
    except (NotAModel, Unreadable) as error:
        raise CannotStart(f"{named}: {error}") from None
    return model


def check_memory(settings: ServingSettings, model: Path, available: int) -> None:
    """Raises CannotStart, before the kernel picks somebody to kill."""
    weights = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    needed = int((ENGINE_GIB + settings.kv_cache_gib) * GIB) + weights
    if available < needed:
        raise CannotStart(
            f"the engine needs about {needed / GIB:.1f} GiB of memory, {available / GIB:.1f} GiB are free: "
            "stop something, or lower serving.kv_cache_gib"
        )


def pick_port(first: int, name: str) -> int:
    """`first` plus the replica's number, or any free port where `first` is 0; raises CannotStart where it is taken."""
    number = re.search(r"\d+$", name)
    wanted = first + int(number[0]) if first and number else first
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            raise CannotStart(f"port {wanted} of {name} is taken: change serving.engine_port") from None
        return int(probe.getsockname()[1])


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m serving.replica", description=__doc__)
    parser.add_argument("--name", required=True, help="the replica's name, for example replica-0")
    parser.add_argument("--next", action="store_true", help="serve serving.next_model")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
