"""Bases of two families; adapters that are saved, loaded, copied and removed."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from infra.base_model import NotAModel
from tests.support.tiny_model import Kind, make_tiny_model
from tests.support.training import disturb, make_base
from trainer.model import (
    CONFIG,
    WEIGHTS,
    AdapterMismatch,
    Base,
    UnsupportedModel,
    adapter_parameters,
    attach_adapter,
    copy_adapter,
    load_adapter,
    load_base,
    remove_adapter,
    save_adapter,
    using,
)
from trainer.switch import SwitchRefused

IDS = torch.tensor([[3, 45, 78, 1, 4]])
KINDS: tuple[Kind, ...] = ("llama", "qwen2")


@torch.no_grad()
def logits(base: Base, name: str | None) -> torch.Tensor:
    with using(base, name):
        found: torch.Tensor = base.model(IDS).logits
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_base_of_either_family_loads_with_its_revision_and_end_token(tmp_path: Path, kind: Kind) -> None:
    base = make_base(tmp_path, kind=kind)
    assert len(base.revision) == 12
    assert base.end_ids == {base.tokenizer.eos_token_id}
    assert not any(parameter.requires_grad for parameter in base.model.parameters())


def test_a_directory_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAModel, match="missing"):
        load_base(tmp_path)


def test_end_tokens_of_the_generation_config_count_all(tmp_path: Path) -> None:
    directory = make_tiny_model(tmp_path / "model")
    file = directory / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": [1, 5]}))
    assert load_base(directory).end_ids == {1, 5}


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_adapter_changes_nothing(tmp_path: Path, kind: Kind) -> None:
    base = make_base(tmp_path, kind=kind, adapters=("policy",))
    assert torch.equal(logits(base, "policy"), logits(base, None))


def test_every_linear_layer_below_the_head_gets_an_adapter_and_the_head_none(tmp_path: Path) -> None:
    base = make_base(tmp_path, adapters=("policy",))
    save_adapter(base, "policy", tmp_path / "saved")
    keys = load_file(tmp_path / "saved" / WEIGHTS)
    assert len(keys) == 2 * 7 * 2  # layers, linear layers in each, A and B
    assert not any("lm_head" in key or "embed" in key for key in keys)


def test_only_the_layers_that_were_named_get_an_adapter_and_a_copy_gets_the_same(tmp_path: Path) -> None:
    base = make_base(tmp_path)
    attach_adapter(base, "policy", rank=2, alpha=4, targets=["o_proj", "down_proj"], seed=0)
    disturb(base, "policy")
    copy_adapter(base, "policy", "copy")
    save_adapter(base, "copy", tmp_path / "saved")
    load_adapter(base, "again", tmp_path / "saved")
    assert {key.split(".")[-3] for key in load_file(tmp_path / "saved" / WEIGHTS)} == {"o_proj", "down_proj"}
    assert torch.equal(logits(base, "again"), logits(base, "policy"))


def test_a_layer_that_the_base_has_not_is_named_with_those_it_has(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModel, match=r"no linear layer query: there are down_proj, gate_proj"):
        attach_adapter(make_base(tmp_path), "policy", rank=2, alpha=4, targets=["o_proj", "query"], seed=0)


def test_the_same_seed_gives_the_same_adapter_and_another_seed_another(tmp_path: Path) -> None:
    base = make_base(tmp_path)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        attach_adapter(base, name, rank=4, alpha=8, seed=seed)
    first, same, other = (save_adapter(base, name, tmp_path / name) for name in "abc")
    assert first == same != other


def test_attaching_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    base = make_base(tmp_path)
    before = torch.get_rng_state()
    attach_adapter(base, "policy", rank=4, alpha=8, seed=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_adapter_comes_back_the_same(tmp_path: Path, kind: Kind) -> None:
    base = make_base(tmp_path, kind=kind, adapters=("policy",))
    disturb(base, "policy")
    sha256 = save_adapter(base, "policy", tmp_path / "saved")
    load_adapter(base, "again", tmp_path / "saved")
    assert torch.equal(logits(base, "again"), logits(base, "policy"))
    assert save_adapter(base, "again", tmp_path / "twice") == sha256
    assert not torch.equal(logits(base, "again"), logits(base, None))


def test_peft_itself_reads_what_we_save(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = make_base(tmp_path, adapters=("policy",))
    disturb(base, "policy")
    save_adapter(base, "policy", tmp_path / "saved")
    plain = AutoModelForCausalLM.from_pretrained(base.directory)
    theirs = PeftModel.from_pretrained(plain, tmp_path / "saved").eval()
    torch.testing.assert_close(theirs(IDS).logits, logits(base, "policy"))


def test_what_is_saved_names_no_path_of_this_machine(tmp_path: Path) -> None:
    base = make_base(tmp_path, adapters=("policy",))
    save_adapter(base, "policy", tmp_path / "saved")
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [CONFIG, WEIGHTS]
    assert str(tmp_path) not in (tmp_path / "saved" / CONFIG).read_text()


def test_two_adapters_do_not_see_each_other(tmp_path: Path) -> None:
    base = make_base(tmp_path, adapters=("policy", "reward"))
    before = logits(base, "reward")
    disturb(base, "policy")
    assert torch.equal(logits(base, "reward"), before)


def test_an_adapter_of_another_shape_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    wide = load_base(make_tiny_model(tmp_path / "wide", hidden=128))
    attach_adapter(wide, "policy", rank=4, alpha=8, seed=0)
    save_adapter(wide, "policy", tmp_path / "saved")
    base = make_base(tmp_path)
    with pytest.raises(AdapterMismatch, match="does not fit"):
        load_adapter(base, "policy", tmp_path / "saved")
    with pytest.raises(AdapterMismatch):
        load_adapter(base, "policy", tmp_path / "saved")


def test_an_adapter_with_a_tensor_missing_is_refused(tmp_path: Path) -> None:
    base = make_base(tmp_path, adapters=("policy",))
    save_adapter(base, "policy", tmp_path / "saved")
    tensors = load_file(tmp_path / "saved" / WEIGHTS)
    tensors.popitem()
    save_file(tensors, tmp_path / "saved" / WEIGHTS)
    with pytest.raises(AdapterMismatch):
        load_adapter(base, "again", tmp_path / "saved")


def test_a_removed_adapter_s_name_is_free_again(tmp_path: Path) -> None:
    base = make_base(tmp_path, adapters=("policy", "reward"))
    remove_adapter(base, "policy")
    assert adapter_parameters(base, "policy") == []
    attach_adapter(base, "policy", rank=2, alpha=4, seed=0)
    assert adapter_parameters(base, "policy")[0].shape[0] == 2


def test_an_adapter_that_is_on_is_not_removed(tmp_path: Path) -> None:
    base = make_base(tmp_path, adapters=("policy",))
    with using(base, "policy"), pytest.raises(SwitchRefused, match="is on"):
        remove_adapter(base, "policy")


def test_adapters_are_float32_on_a_bfloat16_base(tmp_path: Path) -> None:
    base = load_base(make_tiny_model(tmp_path / "model"), dtype="bfloat16")
    attach_adapter(base, "policy", rank=4, alpha=8, seed=0)
    assert base.model.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in adapter_parameters(base, "policy")} == {torch.float32}
