"""Adapters of a tiny model that answer differently, published and accepted as a cycle would have left them."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from infra.artifacts import dump_json
from infra.clock import now
from infra.contracts.manifests import AdapterManifest, Evidence, SmokeCase
from infra.ports import Ports
from infra.registry import adapters
from infra.registry.adapters import AdapterState
from trainer.data import Message, Prompt, encode_prompt
from trainer.model import Base, adapter_parameters, attach_adapter, load_adapter, remove_adapter, save_adapter, using

RANK = 8
STRENGTH = 0.3  # of the random weights: enough that greedy answers differ from adapter to adapter
SMOKE_IDS = [5, 17, 33, 60, 121, 200, 7, 9]
CONTINUED = 8


def publish_version(ports: Ports, base: Base, directory: Path, *, seed: int, alias: str = "assistant") -> str:
    """A random adapter with true smoke log-probabilities, registered and accepted; returns its version name."""
    return publish_made(ports, directory, make_version(base, directory, seed=seed, alias=alias))


def make_version(base: Base, directory: Path, *, seed: int, alias: str = "assistant") -> AdapterManifest:
    """A random adapter as a trainer leaves it in its working directory, with true smoke log-probabilities."""
    attach_adapter(base, "made", rank=RANK, alpha=2 * RANK, seed=seed)
    _randomise(base, "made", seed)
    try:
        return save_version(base, "made", directory, seed=seed, alias=alias)
    finally:
        remove_adapter(base, "made")


def save_version(
    base: Base, name: str, directory: Path, *, seed: int, alias: str = "assistant", method: str = "random"
) -> AdapterManifest:
    """The attached adapter `name`, in its working directory, with manifest and evidence."""
    sha256, smoke = save_adapter(base, name, directory), [_case(base, name)]
    version = f"{alias}-{seed}-{sha256[:8]}"
    manifest = AdapterManifest(
        version=version, alias=alias, tenant="default", cycle_id=None, base_revision=base.revision, rank=RANK,
        sha256=sha256, dataset_sha256=[], method=method, seeds={"adapter": seed}, created_at=now(),
    )  # fmt: skip
    (directory / "manifest.json").write_bytes(dump_json(manifest.model_dump(mode="json")))
    evidence = Evidence(version=version, champion="base", smoke=smoke)
    (directory / "evidence.json").write_text(json.dumps(evidence.model_dump(mode="json")))
    return manifest


def publish_made(
    ports: Ports, directory: Path, manifest: AdapterManifest, state: AdapterState = AdapterState.ACCEPTED
) -> str:
    """Into the store and the registry, past its gates unless `state` says otherwise; returns the version name."""
    path = f"adapters/{manifest.version}"
    ports.artifacts.publish(path, directory)
    with ports.database.transaction() as session:
        adapters.register(session, manifest, path)
        adapters.move(session, manifest.version, state)
    return manifest.version


def _randomise(base: Base, name: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter_parameters(base, name):
            parameter.normal_(0.0, STRENGTH, generator=generator)


def own_answer(base: Base, directory: Path | None, messages: Sequence[Message], *, tokens: int) -> tuple[int, ...]:
    """What a version itself answers greedily, by the trainer's own model and no engine; no directory is the base."""
    prompt = encode_prompt(base.tokenizer, Prompt(messages))
    if directory is None:
        return _greedy(base, None, prompt, tokens)
    load_adapter(base, "own", directory)
    try:
        return _greedy(base, "own", prompt, tokens)
    finally:
        remove_adapter(base, "own")


@torch.no_grad()
def _greedy(base: Base, name: str | None, prompt: Sequence[int], tokens: int) -> tuple[int, ...]:
    ids = list(prompt)
    with using(base, name):
        for _ in range(tokens):
            ids.append(int(base.model(torch.tensor([ids])).logits[0, -1].argmax()))
    return tuple(ids[len(prompt) :])


@torch.no_grad()
def _case(base: Base, name: str) -> SmokeCase:
    """The prompt with its greedy continuation: tokens that this adapter itself finds probable."""
    ids = [*SMOKE_IDS, *_greedy(base, name, SMOKE_IDS, CONTINUED)]
    with using(base, name):
        logits = base.model(torch.tensor([ids])).logits[0, :-1].double()
    scores: list[float] = logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
    return SmokeCase(token_ids=ids, logprobs=scores)
