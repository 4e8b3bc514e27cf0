"""TRL's side of one case of the trainer benchmark, at its best settings; prints a JSON line.

No checkpointing, logging, saving or evaluation; fused AdamW; rows in an order in which each batch is of like length,
so that no sampler of its own could pad less; reference log-probabilities of DPO and KTO asked for once beforehand;
sampling, and whatever the tokenizer does, not counted.
"""

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, TrainerCallback

from tests.bench.trainer_meter import Meter, warm
from tests.bench.trainer_work import BETA, CLIP, EPOCHS, LONGEST, POLICY_BETA, RATE, SAMPLING, Place, Work
from tests.support.trl import import_trl

Row = dict[str, Any]

NAMES = {"sft": "SFT", "reward": "Reward", "dpo": "DPO", "kto": "KTO", "grpo": "GRPO", "rloo": "RLOO"}
COLUMNS = ("prompt", "chosen", "rejected", "completion", "label")


class Timing(TrainerCallback):
    """The meter is on from the first step to the last."""

    def __init__(self, meter: Meter) -> None:
        self._on = meter.on()

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._on.__enter__()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self._on.__exit__(None, None, None)


class Answers:
    """What was sampled beforehand, for the trainer that asks, and the reward of each."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = {tuple(row["prompt_ids"]): row["answer_ids"] for row in rows}
        self._rewards = {
            tuple(ids): score for row in rows for ids, score in zip(row["answer_ids"], row["rewards"], strict=True)
        }

    def of(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """Each prompt comes once for each of its samples."""
        left = {key: iter(found) for key, found in self._rows.items()}
        return [next(left[tuple(prompt)]) for prompt in prompts]

    def rewards(self, completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        return [self._rewards[tuple(ids)] for ids in completion_ids]


def trainer_class(kind: str, meter: Meter, answers: Answers | None) -> type:
    """TRL's own, except that sampling hands out what is there, and that its reference pass is timed."""
    trainer: type[Any] = getattr(import_trl(f"trl.trainer.{kind.lower()}_trainer"), f"{kind}Trainer")

    class Sampling(trainer):  # type: ignore[misc]
        def _generate(self, prompts: list[Any]) -> Any:
            with meter.aside():
                return super()._generate(prompts)

        def _generate_single_turn(self, prompt_ids: list[list[int]], *_: Any) -> Any:
            assert answers is not None
            found = answers.of(prompt_ids)
            return found if kind == "RLOO" else (found, None)

    class Offline(trainer):  # type: ignore[misc]
        def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
            with meter.on():
                return super().compute_ref_log_probs(model, inputs)

    return Sampling if answers else Offline if kind in ("DPO", "KTO") else trainer


def choices(work: Work) -> dict[str, Any]:
    """What only this method's config takes."""
    if work.method in SAMPLING:
        return _sampling_choices(work)
    chosen: dict[str, Any] = {"max_length": None, "per_device_train_batch_size": work.batch, "max_steps": work.steps}
    if work.method in ("dpo", "kto"):
        chosen |= {"beta": BETA, "precompute_ref_log_probs": True, "train_sampling_strategy": "sequential"}
    if work.method == "sft":
        chosen["completion_only_loss"] = True
    return {"train_sampling_strategy": "sequential", "lr_scheduler_type": "cosine", **chosen}


def _sampling_choices(work: Work) -> dict[str, Any]:
    """All of a step's samples make one update, accumulated over forwards of `micro`, and that EPOCHS times."""
    whole = work.batch * work.samples
    micro = min(work.micro, whole)
    chosen = {
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": whole // micro,
        "steps_per_generation": whole // micro,
        "num_iterations": EPOCHS,
        "num_generations": work.samples,
        "max_steps": work.steps * EPOCHS,
        "max_completion_length": LONGEST,
        "beta": POLICY_BETA,
        "epsilon": CLIP,
        "shuffle_dataset": False,
        "lr_scheduler_type": "constant",
        "temperature": 1.0,
    }
    if work.method == "grpo":
        chosen |= {"loss_type": "dapo", "scale_rewards": "group", "use_bias_correction_kl": False}
    return chosen


def make_config(work: Work, directory: str) -> Any:
    kind = NAMES[work.method]
    config = getattr(import_trl(f"trl.trainer.{kind.lower()}_config"), f"{kind}Config")
    cuda = work.device == "cuda"
    return config(
        output_dir=directory, report_to="none", use_cpu=not cuda, bf16=cuda, save_strategy="no", eval_strategy="no",
        logging_strategy="no", logging_nan_inf_filter=False, disable_tqdm=True, gradient_checkpointing=False,
        dataloader_num_workers=0, dataloader_pin_memory=cuda, learning_rate=RATE, weight_decay=0.0, max_grad_norm=1.0,
        optim="adamw_torch_fused", **choices(work),
    )  # fmt: skip


def load_model(place: Place) -> Any:
    """Frozen, since only the LoRA that the trainer adds is trained."""
    work = place.work
    kind = AutoModelForSequenceClassification if work.method == "reward" else AutoModelForCausalLM
    named = {"num_labels": 1} if work.method == "reward" else {}
    model = kind.from_pretrained(place.model, dtype=getattr(torch, work.dtype), attn_implementation="sdpa", **named)
    if work.method == "reward":
        torch.nn.init.zeros_(model.score.weight)  # as ours begins
    return model.to(work.device).requires_grad_(False)


def rows_of(place: Place) -> list[Row]:
    """Prompts in the order in which our side asked for them."""
    rows = place.rows
    if place.work.method in SAMPLING:
        rows = [rows[at] for at in json.loads(place.order.read_text())]
    return [_columns(row) for row in rows]


def make_trainer(place: Place, meter: Meter, model: Any, directory: str) -> Any:
    work = place.work
    tokenizer = AutoTokenizer.from_pretrained(place.model)
    meter.leave_out_tokenising(tokenizer)
    described = json.loads((place.adapter / "adapter_config.json").read_text())
    lora = LoraConfig(
        r=described["r"], lora_alpha=described["lora_alpha"], target_modules=described["target_modules"],
        task_type="SEQ_CLS" if work.method == "reward" else "CAUSAL_LM",
    )  # fmt: skip
    answers = Answers(place.rows) if work.method in SAMPLING else None
    given = {"reward_funcs": answers.rewards} if answers else {}
    trainer = trainer_class(NAMES[work.method], meter, answers)(
        model=model, args=make_config(work, directory), train_dataset=Dataset.from_list(rows_of(place)),
        processing_class=tokenizer, peft_config=lora, callbacks=[Timing(meter)], **given,
    )  # fmt: skip
    if work.method != "reward":  # whose LoRA begins fresh on our side too
        set_peft_model_state_dict(trainer.model, load_file(place.adapter / "adapter_model.safetensors"))
    return trainer


def main(place: Place) -> None:
    work = place.work
    torch.set_num_threads(work.threads)
    meter, model = Meter(work.device), load_model(place)
    warm(model)
    import_trl(f"trl.trainer.{NAMES[work.method].lower()}_trainer")  # before memory is looked at
    meter.begin()
    with TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = make_trainer(place, meter, model, directory)
        found = trainer.train()
    sys.stdout.write(json.dumps(meter.read(found.training_loss)) + "\n")


def _columns(row: Row) -> Row:
    """Answers as messages."""
    found = {name: row[name] for name in COLUMNS if name in row}
    for name in ("chosen", "rejected", "completion"):
        if name in found:
            found[name] = [{"role": "assistant", "content": found[name]}]
    return found


if __name__ == "__main__":
    main(Place(Path(sys.argv[1]), sys.argv[2]))
