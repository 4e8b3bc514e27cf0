"""Adapters for a model directory, good ones and every kind of bad one, made from numpy and safetensors alone."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from infra.artifacts import dump_json
from infra.base_model import base_revision, file_sha256
from infra.contracts.manifests import AdapterManifest, Evidence, SmokeCase
from infra.ports import Ports
from infra.registry import adapters
from serving.adapters import CONFIG, LORA_A, LORA_B, PREFIX, WEIGHTS, read_base
from tests.support.manifests import make_adapter_manifest

TARGETS = ("q_proj", "v_proj", "down_proj")
CONTINUED = 6  # tokens that the adapter itself finds probable
Spoil = Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class MadeAdapter:
    """A directory as the trainer would publish it, and its manifest."""

    directory: Path
    manifest: AdapterManifest

    @property
    def version(self) -> str:
        return self.manifest.version


def make_adapter(
    directory: Path,
    model: Path,
    *,
    seed: int = 0,
    rank: int = 8,
    scale: float = 0.3,
    targets: Sequence[str] = TARGETS,
    spoil: Spoil | None = None,
    resign: bool = True,
    **manifest: object,
) -> MadeAdapter:
    """`spoil` changes the finished directory; with `resign` its manifest is of the result, else of what was before."""
    directory.mkdir(parents=True)
    save_file(lora_tensors(model, rank=rank, seed=seed, scale=scale, targets=targets), directory / WEIGHTS)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": list(targets), "bias": "none"}
    (directory / CONFIG).write_text(json.dumps(config | {"task_type": "CAUSAL_LM"}))
    before = file_sha256(directory / WEIGHTS)
    if spoil is not None:
        spoil(directory)
    sha256 = file_sha256(directory / WEIGHTS) if resign and (directory / WEIGHTS).exists() else before
    fields = {"rank": rank, "sha256": sha256, "base_revision": base_revision(model), "cycle_id": None}
    named = make_adapter_manifest(**{**fields, "version": f"assistant-{seed}-{sha256[:8]}", **manifest})
    (directory / "manifest.json").write_bytes(dump_json(named.model_dump(mode="json")))
    return MadeAdapter(directory, named)


def lora_tensors(
    model: Path, *, rank: int, seed: int, scale: float, targets: Sequence[str] = TARGETS
) -> dict[str, np.ndarray]:
    """Both matrices of every target module, normally distributed."""
    rng = np.random.default_rng(seed)
    found = {}
    for module, (outputs, inputs) in sorted(read_base(model).linear.items()):
        if module.rpartition(".")[2] in targets:
            found[PREFIX + module + LORA_A] = rng.normal(0, scale, (rank, inputs)).astype(np.float32)
            found[PREFIX + module + LORA_B] = rng.normal(0, scale, (outputs, rank)).astype(np.float32)
    return found


def publish(ports: Ports, made: MadeAdapter, evidence: Evidence | None = None) -> str:
    """Into the artifact store and the registry, as the trainer does; returns the version."""
    found = evidence or Evidence(version=made.version, champion="base")
    (made.directory / "evidence.json").write_bytes(dump_json(found.model_dump(mode="json")))
    path = f"adapters/{made.version}"
    ports.artifacts.publish(path, made.directory)
    with ports.database.transaction() as session:
        adapters.register(session, made.manifest, path)
    return made.version


def smoke_cases(model: Path, directory: Path, prompts: Sequence[Sequence[int]]) -> list[SmokeCase]:
    """What transformers and PEFT say, in place of the trainer, of each prompt with its greedy continuation."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, directory).eval()
    cases = []
    for prompt in prompts:
        token_ids = list(prompt)
        with torch.no_grad():
            for _ in range(CONTINUED):
                token_ids.append(int(adapted(torch.tensor([token_ids])).logits[0, -1].argmax()))
            logits_TV = adapted(torch.tensor([token_ids])).logits[0, :-1]
        logprobs_T = logits_TV.log_softmax(-1).gather(1, torch.tensor(token_ids)[1:, None])[:, 0]
        cases.append(SmokeCase(token_ids=token_ids, logprobs=logprobs_T.tolist()))
    return cases


def change_weights(change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Spoil:
    """Rewrites the weights file."""

    def spoil(directory: Path) -> None:
        save_file(change(load_file(directory / WEIGHTS)), directory / WEIGHTS)

    return spoil


def change_config(**fields: object) -> Spoil:
    def spoil(directory: Path) -> None:
        config = json.loads((directory / CONFIG).read_text())
        (directory / CONFIG).write_text(json.dumps(config | fields))

    return spoil


def with_nan(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    name = sorted(tensors)[-1]
    return tensors | {
        name: np.where(np.arange(tensors[name].size).reshape(tensors[name].shape) == 3, np.nan, tensors[name])
    }


def with_wrong_shape(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    name = next(name for name in sorted(tensors) if name.endswith(LORA_A))
    return tensors | {name: np.ascontiguousarray(tensors[name][:, :-1])}


def truncate(directory: Path) -> None:
    content = (directory / WEIGHTS).read_bytes()
    (directory / WEIGHTS).write_bytes(content[: len(content) // 2])


def tamper(directory: Path) -> None:
    """One bit."""
    content = bytearray((directory / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (directory / WEIGHTS).write_bytes(content)


def pickle_it(directory: Path) -> None:
    """What older PEFT wrote: a name is enough, nothing may even open it."""
    (directory / WEIGHTS).rename(directory / "adapter_model.bin")


BAD: dict[str, tuple[dict[str, object], str]] = {
    "NaN": ({"spoil": change_weights(with_nan)}, "not finite"),
    "wrong-shaped": ({"spoil": change_weights(with_wrong_shape)}, "has shape"),
    "truncated": ({"spoil": truncate}, "truncated"),
    "tampered": ({"spoil": tamper, "resign": False}, "tampered"),
    "pickled": ({"spoil": pickle_it}, "pickle"),
    "for another base": ({"base_revision": "ffffffffffff"}, "trained on base ffffffffffff"),
}
"""Kind of bad adapter -> how `make_adapter` makes it, and what its refusal says."""


def make_bad_adapter(kind: str, directory: Path, model: Path) -> MadeAdapter:
    made, _ = BAD[kind]
    unique = hashlib.sha256(kind.encode()).hexdigest()[:8]
    return make_adapter(directory, model, **{"seed": 7, "version": f"assistant-7-{unique}", **made})  # type: ignore[arg-type]  # one dict for all
