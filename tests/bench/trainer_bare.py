"""PPO without a library: a base with three LoRAs and two heads, and the passes that PPO makes of them."""

import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM

from tests.bench.trainer_meter import warm
from tests.bench.trainer_rows import reward_weights
from tests.bench.trainer_work import Place

ADAPTERS = ("policy", "reward", "value")

Sample = tuple[list[int], list[int]]  # a prompt's tokens, an answer's


class Batch:
    """One forward's rows, padded on the right. N: all its answer tokens, row by row."""

    def __init__(self, rows: Sequence[Sample], device: str) -> None:
        whole = [torch.tensor(asked + ids) for asked, ids in rows]
        self.ids_BL = pad_sequence(whole, batch_first=True).to(device)
        starts_B = torch.tensor([len(asked) for asked, _ in rows], device=device)[:, None]
        ends_B = torch.tensor([len(row) for row in whole], device=device)[:, None]
        places_L = torch.arange(self.ids_BL.shape[1], device=device)
        self.answers_BL = (places_L >= starts_B) & (places_L < ends_B)
        self.before_BL = self.answers_BL.roll(-1, dims=1)
        self.last_B = ends_B[:, 0] - 1
        self.lengths = [len(ids) for _, ids in rows]


class Bare:
    """One base, three LoRAs, two heads."""

    def __init__(self, place: Place) -> None:
        work = place.work
        described = json.loads((place.adapter / "adapter_config.json").read_text())
        weights = load_file(place.adapter / "adapter_model.safetensors")
        model: Any = AutoModelForCausalLM.from_pretrained(place.model, dtype=getattr(torch, work.dtype))
        self.device = work.device
        warm(model.to(work.device).requires_grad_(False))
        lora = LoraConfig(
            r=described["r"], lora_alpha=described["lora_alpha"], target_modules=described["target_modules"]
        )
        self.model: Any = get_peft_model(model, lora, adapter_name=ADAPTERS[0])
        for name in ADAPTERS[1:]:
            self.model.add_adapter(name, lora)
        for name in ADAPTERS:
            set_peft_model_state_dict(self.model, weights, adapter_name=name)
        self.reward_WH = reward_weights(model.config.hidden_size).to(work.device)
        self.value = torch.nn.Linear(model.config.hidden_size, 1).to(work.device)
        torch.nn.init.zeros_(self.value.weight)
        torch.nn.init.zeros_(self.value.bias)

    def parameters(self, name: str) -> list[torch.nn.Parameter]:
        return [value for key, value in self.model.named_parameters() if f".{name}." in key]

    def hidden(self, batch: Batch, name: str | None) -> Tensor:
        """[B, L, hidden] under one LoRA, or the bare base."""
        if name is not None:
            self.model.set_adapter(name)
        off: AbstractContextManager[Any] = nullcontext() if name else self.model.disable_adapter()
        with off:
            states: Tensor = self.model.base_model.model.model(
                input_ids=batch.ids_BL, use_cache=False
            ).last_hidden_state
        return states

    def logps(self, batch: Batch, name: str | None) -> Tensor:
        """[N]"""
        logits_NV = self.model.get_output_embeddings()(self.hidden(batch, name)[batch.before_BL]).float()
        picked_N = batch.ids_BL[batch.answers_BL]
        return logits_NV.gather(-1, picked_N[:, None])[:, 0] - logits_NV.logsumexp(-1)

    def values(self, batch: Batch) -> Tensor:
        """[N]"""
        found: Tensor = self.value(self.hidden(batch, "value")[batch.before_BL].float())[:, 0]
        return found

    def scores(self, batch: Batch) -> Tensor:
        """[B]"""
        states_BLH = self.hidden(batch, "reward")
        everyone = torch.arange(len(batch.last_B), device=self.device)
        found: Tensor = (states_BLH[everyone, batch.last_B].float() @ self.reward_WH.T)[:, 0]
        return found


def batches(rows: Sequence[Sample], tokens: int) -> Iterator[list[int]]:
    """Rows of like length, at most so many tokens with padding."""
    picked: list[int] = []
    for at in sorted(range(len(rows)), key=lambda at: len(rows[at][0]) + len(rows[at][1])):
        if picked and (len(rows[at][0]) + len(rows[at][1])) * (len(picked) + 1) > tokens:
            yield picked
            picked = []
        picked.append(at)
    yield picked
