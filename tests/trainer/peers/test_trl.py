"""Our losses on TRL's own batches: its trainer collates and computes, we compute on the same tokens and LoRA."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from torch import Tensor

from tests.support.policy import make_context
from tests.support.training import disturb, make_base
from tests.support.trl import import_trl
from trainer.batches import all_logprobs, make_batch
from trainer.lines import Encoded
from trainer.losses.preference import kto_reference_point
from trainer.methods import dpo, kto, reward
from trainer.methods.sft import Row, sft_loss
from trainer.model import Base, adapter_parameters, attach_adapter, using
from trainer.rewarding import Head, RewardModel
from trainer.rewards.rankings import Element, Pair, collate

QUESTIONS = ("What does math.cos do?", "Who are you?", "List the days.", "And then?")
GOOD = ("It returns the cosine of x.", "An assistant", "Monday, Tuesday and so on, until Sunday.", "a list")
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BAD = ("a string", "Nobody knows who I am, nor do I.", "No.", "It is called with x, and returns nothing at all")


def asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def answered(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


class Peer:
    """A TRL trainer on the tiny model with a LoRA that counts, and our base with the same one as `policy`."""

    def __init__(self, directory: Path, kind: str, rows: list[dict[str, Any]], **choices: Any) -> None:
        self.base: Base = make_base(directory)
        make_settings, make_trainer = (
            getattr(import_trl(f"trl.trainer.{kind.lower()}_{part.lower()}"), f"{kind}{part}")
            for part in ("Config", "Trainer")
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            settings = make_settings(
                output_dir=str(directory / "out"), report_to="none", use_cpu=True, bf16=False, save_strategy="no",
                per_device_train_batch_size=len(rows), gradient_checkpointing=False, disable_tqdm=True, **choices,
            )  # fmt: skip
            self.trainer = make_trainer(
                model=str(self.base.directory), args=settings, train_dataset=Dataset.from_list(rows),
                peft_config=LoraConfig(
                    r=4, lora_alpha=8, target_modules=LAYERS, task_type="SEQ_CLS" if kind == "Reward" else "CAUSAL_LM",
                ),
            )  # fmt: skip
        attach_adapter(self.base, "policy", rank=4, alpha=8, seed=0)
        disturb(self.base, "policy")
        for mine, theirs in zip(adapter_parameters(self.base, "policy"), self.lora(), strict=True):
            theirs.data.copy_(mine.data)
        self.batch: dict[str, Any] = next(iter(self.trainer.get_train_dataloader()))

    def lora(self) -> list[torch.nn.Parameter]:
        """In our order: A and B of each layer."""
        return [parameter for name, parameter in self.trainer.model.named_parameters() if "lora_" in name]

    def check(self, loss: Tensor) -> None:
        """Ours, whose adapter is on, has TRL's value, and its backward TRL's gradient."""
        loss.backward()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = self.trainer.compute_loss(self.trainer.model, dict(self.batch))
        expected.backward()
        torch.testing.assert_close(loss.detach(), expected.detach(), rtol=1e-4, atol=0)
        for mine, theirs in zip(adapter_parameters(self.base, "policy"), self.lora(), strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-3, atol=1e-4 * float(theirs.grad.abs().max()))

    def rows(self, answers: Tensor, ids: str = "input_ids", attention: str = "attention_mask") -> list[Encoded]:
        """Its collated rows without padding; `answers` marks the tokens that count."""
        whole = zip(self.batch[ids], self.batch[attention].bool(), answers.bool(), strict=True)
        return [encoded(row_L[real_L].tolist(), mine_L[real_L].tolist()) for row_L, real_L, mine_L in whole]


def encoded(tokens: Sequence[int], mine: Sequence[bool]) -> Encoded:
    start = list(mine).index(True)
    assert all(mine[start:])
    return Encoded(tokens[:start], tokens[start:])


def test_fine_tuning_on_answers_alone_is_trl_s(tmp_path: Path) -> None:
    rows = [{"prompt": asked(q), "completion": answered(a)} for q, a in zip(QUESTIONS, GOOD, strict=True)]
    peer = Peer(tmp_path, "SFT", rows, completion_only_loss=True, max_length=None)
    mine = [Row(row, 1.0) for row in peer.rows(peer.batch["labels"] != -100)]
    with using(peer.base, "policy"):
        peer.check(sft_loss(peer.base, mine))


@pytest.mark.parametrize("margins", [None, (0.0, 0.5, 1.0, 3.0)], ids=["no margins", "margins"])
@pytest.mark.parametrize("centring", [None, 0.01, 1.0])
def test_the_reward_loss_is_trl_s(tmp_path: Path, margins: Sequence[float] | None, centring: float | None) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": asked(q), "chosen": answered(a), "rejected": answered(b)}
        for q, a, b in zip(QUESTIONS, GOOD, BAD, strict=True)
    ]
    if margins is not None:
        rows = [{**row, "margin": margin} for row, margin in zip(rows, margins, strict=True)]
    peer = Peer(tmp_path, "Reward", rows, max_length=None, disable_dropout=True, center_rewards_coefficient=centring)
    model = RewardModel(peer.base, "policy", Head(peer.base.hidden_size, features=False))
    (score,) = (value for name, value in peer.trainer.model.named_parameters() if ".score.modules_to_save." in name)
    model.head.hidden.weight.data.copy_(score.data)
    found = [
        Encoded(row_L[:1].tolist(), row_L[real_L.bool()][1:].tolist())
        for row_L, real_L in zip(peer.batch["input_ids"], peer.batch["attention_mask"], strict=True)
    ]
    asked_for = peer.batch["margin"].tolist() if margins is not None else [0.0] * len(rows)
    sides = zip(found[: len(rows)], found[len(rows) :], asked_for, strict=True)
    chosen = collate([Element((a, b), (Pair(0, 1, margin=m),)) for a, b, m in sides], peer.base.device)
    with using(peer.base, "policy"):
        scores_A = model.scores(make_batch(peer.base, chosen.rows), None)
        peer.check(reward.pairs_loss(scores_A, chosen, centring=centring or 0.0))


@pytest.mark.parametrize(("loss_type", "beta"), [("sigmoid", 0.1), ("sigmoid", 2.0), ("ipo", 0.5)])
def test_dpo_is_trl_s(tmp_path: Path, loss_type: str, beta: float) -> None:
    rows = [
        {"prompt": asked(q), "chosen": answered(a), "rejected": answered(b)}
        for q, a, b in zip(QUESTIONS, GOOD, BAD, strict=True)
    ]
    peer = Peer(tmp_path, "DPO", rows, loss_type=[loss_type], beta=beta, max_length=None)
    found = peer.rows(peer.batch["completion_mask"])
    pairs = [dpo.Pair(a, b, 1.0) for a, b in zip(found[: len(rows)], found[len(rows) :], strict=True)]
    context = make_context(peer.base, tmp_path, dpo_loss=loss_type, dpo_beta=beta)
    reference = dpo.reference_logprobs(context, found).view(2, -1).T
    with using(peer.base, "policy"):
        peer.check(dpo.part_loss(context, pairs, reference, weighing=len(pairs))[0])


@pytest.mark.parametrize("beta", [0.1, 2.0])
def test_kto_is_trl_s_with_the_pairs_that_it_estimates_kl_from(tmp_path: Path, beta: float) -> None:
    """TRL shifts answers within the batch in its own order, so its batch decides who the neighbours are."""
    rows = [
        {"prompt": asked(q), "completion": answered(text), "label": label}
        for q, a, b in zip(QUESTIONS, GOOD, BAD, strict=True)
        for text, label in ((a, True), (b, False))
    ]
    peer = Peer(tmp_path, "KTO", rows, beta=beta, max_length=None)
    thumbs = [
        kto.Thumb(row, bool(label), 1.0)
        for row, label in zip(peer.rows(peer.batch["completion_mask"]), peer.batch["label"], strict=True)
    ]
    moved = peer.rows(peer.batch["KL_completion_mask"], "KL_input_ids", "KL_attention_mask")
    context = make_context(peer.base, tmp_path, kto_beta=beta)
    reference = dpo.reference_logprobs(context, [thumb.row for thumb in thumbs])
    with using(peer.base, "policy"):
        gone = torch.stack([logps.sum() for logps in all_logprobs(peer.base, moved)])
        point = kto_reference_point(gone - dpo.reference_logprobs(context, moved))
        peer.check(kto.part_loss(context, thumbs, reference, point, weighing=len(thumbs))[0])
