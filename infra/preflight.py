"""What must be true before anything is started. Each problem is one line that says what to do about it."""

import errno
import importlib.util
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.base_model import NotAModel, check_model
from infra.database.schema import SchemaMismatch
from infra.servers import SERVERS, ServerAway, ahead_s, keyring, missing_topics, schema
from infra.settings import InfraSettings, ServingSettings, Settings

GIB = 1024**3
ROOM_OF_THE_OTHERS_GIB = 1.5  # gateway, feedback, controller and an idle worker, measured at 0.9 together
ENGINE_GIB = 1.5  # vLLM's CPU build with a model of no size
DISK_GIB = 1.0
CLOCK_S = 1.0
CGROUP = Path("/sys/fs/cgroup")


class Unfit(RuntimeError):
    """This machine, or what was asked for, cannot run the stack. One line per problem."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `problem` is empty where all is well, and then `detail` says what was found."""

    check: str
    detail: str = ""
    problem: str = ""


def refuse_unfit(settings: Settings) -> None:
    """Raises Unfit with every problem found."""
    problems = [finding.problem for finding in findings(settings) if finding.problem]
    if problems:
        raise Unfit("\n".join(problems))


def findings(settings: Settings) -> Iterator[Finding]:
    """Every check, in the order of how likely it is to be the trouble."""
    yield check_base(settings.serving)
    yield check_engine()
    yield check_port(settings.gateway.host, settings.gateway.port)
    yield check_memory(settings.serving, available_memory())
    yield check_disk(settings.home, shutil.disk_usage)
    yield check_keyring(settings)
    if settings.infra.profile == "full":
        yield from check_servers(settings)


def state_findings(settings: Settings) -> Iterator[Finding]:
    """What a start makes or mends by itself, and what it does not need but operators do: for `doctor` alone."""
    yield check_schema(settings)
    if settings.infra.profile == "full":
        yield check_topics(settings.infra)
        yield check_clock(settings.infra, ahead_s)


def check_schema(settings: Settings) -> Finding:
    """The database is at this code's schema."""
    try:
        return Finding("schema", schema(settings))
    except (ServerAway, SchemaMismatch) as error:
        return Finding("schema", problem=str(error))


def check_topics(settings: InfraSettings) -> Finding:
    """Kafka has every topic that is written to."""
    try:
        missing = missing_topics(settings)
    except ServerAway as error:
        return Finding("topics", problem=str(error))
    if missing:
        return Finding("topics", problem=f"{', '.join(missing)} missing: run `thumbwheel infra init`")
    return Finding("topics", "all are there")


def check_clock(settings: InfraSettings, ask: Callable[[InfraSettings], float]) -> Finding:
    """Leases and the order of votes are told by the clocks of all machines."""
    try:
        ahead = ask(settings)
    except ServerAway as error:
        return Finding("clock", problem=str(error))
    side = "ahead of" if ahead > 0 else "behind"
    told = f"{abs(ahead):.1f} s {side} the database's"
    if abs(ahead) > CLOCK_S:
        return Finding("clock", problem=f"this machine's clock is {told}: keep both by NTP (chrony, systemd-timesyncd)")
    return Finding("clock", told)


def check_servers(settings: Settings) -> Iterator[Finding]:
    """Kafka, PostgreSQL and Redis answer, and say who they are."""
    for name, ask in SERVERS.items():
        try:
            yield Finding(name, ask(settings.infra))
        except ServerAway as error:
            yield Finding(name, problem=f"{name} does not answer: {error} (start it, or run `make services`)")


def check_keyring(settings: Settings) -> Finding:
    """The data keys can be reached, and where they are."""
    try:
        return Finding("keyring", keyring(settings))
    except ServerAway as error:
        return Finding("keyring", problem=f"{error} (setting infra.keyring_url)")


def check_base(settings: ServingSettings) -> Finding:
    """The base model is there and whole."""
    if not settings.model:
        return Finding(
            "model", problem="no model given: start with `thumbwheel up --model DIR` (setting serving.model)"
        )
    directory = Path(settings.model)
    try:
        check_model(directory)
    except NotAModel as error:
        return Finding("model", problem=str(error))
    return Finding("model", f"{directory} ({weight_bytes(directory) / 1e6:.0f} MB)")


def check_engine() -> Finding:
    """That vLLM is installed, without importing it."""
    if importlib.util.find_spec("vllm") is None:
        return Finding("engine", problem="vLLM is not installed: install thumbwheel[engine-cpu] or [engine-gpu]")
    return Finding("engine", "vllm")


def check_port(host: str, port: int) -> Finding:
    """That the gateway can listen there; port 0 always can."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            reason = "is taken: stop who uses it or choose another with --port" if taken else f"cannot be used: {error}"
            return Finding("port", problem=f"{host}:{port} {reason}")
    return Finding("port", f"{host}:{port} is free")


def check_memory(settings: ServingSettings, available: int) -> Finding:
    """A rough need: the engines with weights and cache, a trainer with its copy, and the small processes."""
    weights = weight_bytes(Path(settings.model)) if settings.model else 0
    following = weight_bytes(Path(settings.next_model)) if settings.next_model else 0
    engines = (settings.replicas + settings.next_replicas) * (settings.kv_cache_gib + ENGINE_GIB)
    engines += 2 * (settings.replicas * weights + settings.next_replicas * following) / GIB
    need = engines + 2 * weights / GIB + ROOM_OF_THE_OTHERS_GIB
    if available < need * GIB:
        problem = f"too little memory: about {need:.1f} GiB are needed, {available / GIB:.1f} GiB are free"
        return Finding("memory", problem=problem)
    return Finding("memory", f"{available / GIB:.1f} GiB free, about {need:.1f} GiB needed")


def check_disk(home: Path, usage: Callable[[Path], shutil._ntuple_diskusage]) -> Finding:
    """Room for logs, datasets and adapters."""
    existing = next(path for path in (home, *home.parents) if path.exists())
    free = usage(existing).free / GIB
    if free < DISK_GIB:
        return Finding("disk", problem=f"too little disk: {free:.1f} GiB free under {existing}, {DISK_GIB} GiB needed")
    return Finding("disk", f"{free:.0f} GiB free")


def available_memory() -> int:
    """Bytes that may still be used: of the machine, or of the container where that allows less."""
    free = int(psutil.virtual_memory().available)
    limit, used = _number(CGROUP / "memory.max"), _number(CGROUP / "memory.current")
    return free if limit is None or used is None else min(free, limit - used)


def weight_bytes(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))


def free_port(host: str) -> int:
    """A port nobody listens on now. It is chosen once, so that a restarted process comes back at its address."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # not there, or "max"
        return None
