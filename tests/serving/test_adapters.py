"""What is refused before any load, each with one clear reason."""

import json
from pathlib import Path

import numpy as np
import pytest

from serving.adapters import CONFIG, LORA_A, LORA_B, PREFIX, WEIGHTS, read_base, validate
from serving.errors import Refused
from tests.support.adapters import BAD, MadeAdapter, change_config, change_weights, make_adapter, make_bad_adapter
from tests.support.tiny_model import make_tiny_model

MAX_RANK = 16


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def check(made: MadeAdapter, model: Path, max_rank: int = MAX_RANK) -> None:
    validate(made.directory, made.manifest, read_base(model), max_rank)


def test_the_linear_layers_are_read_from_the_base_without_its_embeddings(model: Path) -> None:
    base = read_base(model)
    assert base.linear["model.layers.0.mlp.down_proj"] == (64, 128)
    assert base.targets == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def test_an_adapter_of_layers_that_the_engine_leaves_alone_is_refused(tmp_path: Path, model: Path) -> None:
    made = make_adapter(tmp_path / "adapter", model)
    base = read_base(model, only=("o_proj", "down_proj"))
    assert base.targets == {"o_proj", "down_proj"}
    with pytest.raises(Refused, match="target module q_proj is no linear layer of this base that takes an adapter"):
        validate(made.directory, made.manifest, base, MAX_RANK)


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_good_adapter_is_valid(kind: str, tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model", kind=kind)  # type: ignore[arg-type]  # both kinds are known
    check(make_adapter(tmp_path / "adapter", model), model)


def test_what_the_trainer_writes_is_valid(tmp_path: Path, model: Path) -> None:
    from trainer.model import attach_adapter, load_base, save_adapter

    base = load_base(model)
    attach_adapter(base, "made", rank=8, alpha=16, seed=1)
    sha256 = save_adapter(base, "made", tmp_path / "adapter")
    made = make_adapter(tmp_path / "other", model)
    manifest = made.manifest.model_copy(update={"sha256": sha256})
    validate(tmp_path / "adapter", manifest, read_base(model), MAX_RANK)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_adapter_is_refused_with_its_reason(kind: str, tmp_path: Path, model: Path) -> None:
    with pytest.raises(Refused, match=BAD[kind][1]):
        check(make_bad_adapter(kind, tmp_path / "adapter", model), model)


def _without_b(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return dict(item for item in sorted(tensors.items())[:-1])


def _renamed(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.replace("layers.0", "layers.9"): tensor for name, tensor in tensors.items()}


def _foreign(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return tensors | {PREFIX + "model.embed_tokens" + LORA_A: np.zeros((8, 4), dtype=np.float32)}


def _no_matrix(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return tensors | {"anything": np.zeros(3, dtype=np.float32)}


def _integers(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    name = next(name for name in sorted(tensors) if name.endswith(LORA_B))
    return tensors | {name: tensors[name].astype(np.int32)}


def _infinite(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.full_like(tensor, np.inf) for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (change_weights(_without_b), "only one of its two"),
        (change_weights(_renamed), "belongs to no target module"),
        (change_weights(_foreign), "belongs to no target module"),
        (change_weights(_no_matrix), "is no LoRA matrix"),
        (change_weights(_integers), "dtype I32"),
        (change_weights(_infinite), "not finite"),
        (change_weights(lambda _: {}), "holds no tensor"),
        (change_config(r=4), "says rank 4, the manifest 8"),
        (change_config(peft_type="LOHA"), "only LORA"),
        (change_config(use_dora=True), "use_dora"),
        (change_config(rank_pattern={"q_proj": 2}), "rank_pattern"),
        (change_config(modules_to_save=["lm_head"]), "modules_to_save"),
        (change_config(bias="all"), "bias"),
        (change_config(lora_alpha=float("nan")), "lora_alpha"),
        (change_config(lora_alpha=True), "lora_alpha"),
        (change_config(target_modules="all-linear"), "not a list"),
        (change_config(target_modules=["lm_head"]), "lm_head is no linear layer"),
        (change_config(target_modules=["q_proj"]), "belongs to no target module"),
        (lambda directory: (directory / CONFIG).unlink(), "adapter_config.json is missing"),
        (lambda directory: (directory / CONFIG).write_text("{"), "no JSON"),
        (lambda directory: (directory / CONFIG).write_text("[]"), "no object"),
        (lambda directory: (directory / "optimizer.pt").write_bytes(b"x"), "optimizer.pt is a pickle"),
        (lambda directory: (directory / WEIGHTS).write_bytes(b""), "truncated"),
    ],
)
def test_anything_the_engine_would_not_apply_as_trained_is_refused(
    spoil: object, reason: str, tmp_path: Path, model: Path
) -> None:
    made = make_adapter(tmp_path / "adapter", model, spoil=spoil)  # type: ignore[arg-type]  # lambdas return what they like
    with pytest.raises(Refused, match=reason):
        check(made, model)


def test_a_rank_above_the_engines_is_refused(tmp_path: Path, model: Path) -> None:
    made = make_adapter(tmp_path / "adapter", model, rank=32)
    with pytest.raises(Refused, match=r"rank 32 is above serving\.max_lora_rank = 16"):
        check(made, model)


def test_a_missing_weights_file_is_refused(tmp_path: Path, model: Path) -> None:
    made = make_adapter(tmp_path / "adapter", model, spoil=lambda directory: (directory / WEIGHTS).unlink())
    with pytest.raises(Refused, match="adapter_model.safetensors is missing"):
        check(made, model)


def test_bfloat16_is_checked_though_numpy_has_no_such_type(tmp_path: Path, model: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    def halve(directory: Path) -> None:
        tensors = {name: t.to(torch.bfloat16) for name, t in load_file(directory / WEIGHTS).items()}
        save_file(tensors, directory / WEIGHTS)

    def spoil(directory: Path) -> None:
        halve(directory)
        tensors = load_file(directory / WEIGHTS)
        next(iter(tensors.values()))[0, 0] = float("inf")
        save_file(tensors, directory / WEIGHTS)

    check(make_adapter(tmp_path / "good", model, spoil=halve), model)
    with pytest.raises(Refused, match="not finite"):
        check(make_adapter(tmp_path / "bad", model, spoil=spoil), model)


def test_the_config_of_a_made_adapter_is_what_peft_writes(tmp_path: Path, model: Path) -> None:
    made = make_adapter(tmp_path / "adapter", model)
    assert json.loads((made.directory / CONFIG).read_text())["r"] == made.manifest.rank
