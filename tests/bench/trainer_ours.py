"""Our side of one case of the trainer benchmark, through the trainer's public functions; prints a JSON line."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from infra.settings import TrainerSettings
from tests.bench.trainer_meter import Meter, warm
from tests.bench.trainer_rows import reward_weights
from tests.bench.trainer_work import (
    ALPHA,
    BETA,
    CLIP,
    EPOCHS,
    LONGEST,
    POLICY_BETA,
    RANK,
    RATE,
    SAMPLING,
    Place,
    Work,
)
from trainer.batches import Encoded
from trainer.data import Demonstration, Preference, Prompt, Unpaired
from trainer.methods import reward, sft
from trainer.methods.policy import PolicyContext, policy_method
from trainer.model import Base, load_adapter, load_base, using
from trainer.rewarding import Head, RewardModel
from trainer.sampling import Sampled

Row = dict[str, Any]


class Steps:
    """A progress that keeps every step's loss, and what sampling took."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.sampling_s = 0.0

    def __call__(self, _step: int, _total: int, metrics: dict[str, float]) -> None:
        self.losses.append(metrics["loss"])
        self.sampling_s += metrics.get("time/sampling", 0.0)


class PreparedSampler:
    """Hands out the answers that were made beforehand, as if the policy had said them, and notes who was asked for."""

    def __init__(self, base: Base, rows: Sequence[Row]) -> None:
        self._base, self._rows = base, rows
        self.asked: list[int] = []

    def sample(self, prompts: Sequence[Prompt], **_wanted: Any) -> list[list[Sampled]]:
        picked = [int(prompt.prompt_id) for prompt in prompts]
        self.asked += picked
        with using(self._base, "policy"), torch.no_grad():
            return [self._sampled(self._rows[at]) for at in picked]

    def publish(self, name: str, directory: Path) -> None:
        """Nobody samples from it."""

    def retire(self, name: str) -> None:
        """Nothing was kept."""

    def _sampled(self, row: Row) -> list[Sampled]:
        asked, drawn = row["prompt_ids"], zip(row["answer_ids"], row["answers"], strict=True)
        return [Sampled(asked, ids, self._logprobs(asked, ids), "stop", text) for ids, text in drawn]

    def _logprobs(self, asked: list[int], ids: list[int]) -> list[float]:
        """The policy's as it is now, by plain transformers."""
        whole = torch.tensor([asked + ids], device=self._base.device)
        logits_TV = self._base.model(input_ids=whole).logits[0, -len(ids) - 1 : -1].float()
        picked_T1 = torch.tensor(ids, device=self._base.device)[:, None]
        found: list[float] = logits_TV.log_softmax(-1).gather(-1, picked_T1)[:, 0].tolist()
        return found


class GivenReward:
    """Each answer's reward was drawn beforehand."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rewards = {
            tuple(ids): score for row in rows for ids, score in zip(row["answer_ids"], row["rewards"], strict=True)
        }

    def score_encoded(self, rows: Sequence[Encoded], base_logps: Sequence[Tensor] | None = None) -> Tensor:
        return torch.tensor([self._rewards[tuple(row.answer)] for row in rows])


def settings_of(work: Work) -> TrainerSettings:
    return TrainerSettings(
        threads=work.threads,
        max_length=LONGEST,
        lora_rank=RANK,
        lora_alpha=ALPHA,
        sft_learning_rate=RATE,
        reward_rank=RANK,
        reward_learning_rate=RATE,
        reward_batch=work.batch,
        preference_learning_rate=RATE,
        preference_batch=work.batch,
        dpo_beta=BETA,
        kto_beta=BETA,
        policy_learning_rate=RATE,
        policy_steps=work.steps,
        policy_prompts=work.batch,
        policy_samples=work.samples,
        policy_minibatch=work.batch * work.samples,
        policy_epochs=EPOCHS,
        policy_beta=POLICY_BETA,
        policy_clip=CLIP,
        policy_max_new_tokens=LONGEST,
    )


def train_sft(base: Base, place: Place, steps: Steps) -> None:
    rows = [Demonstration(_prompt(row), _message(row["completion"])) for row in place.rows]
    sft.train(base, rows, adapter="policy", settings=settings_of(place.work), seed=0, progress=steps)


def train_reward(base: Base, place: Place, steps: Steps) -> None:
    settings = settings_of(place.work)
    reward.train(base, _pairs(place), [], name="reward", settings=settings, seed=0, features=False, progress=steps)


def make_judge(base: Base, place: Place) -> RewardModel:
    """PPO's, whose pass is timed with the rest."""
    load_adapter(base, "reward", place.adapter)
    judge = RewardModel(base, "reward", Head(base.hidden_size, features=False))
    judge.head.hidden.weight.data.copy_(reward_weights(base.hidden_size))
    return judge


def train_policy(base: Base, place: Place, steps: Steps) -> None:
    work, rows = place.work, place.rows
    sampler = PreparedSampler(base, rows)
    given: dict[str, Any] = {}
    if work.method in SAMPLING:
        prompts = [_prompt(row, str(at)) for at, row in enumerate(rows)]
        judge = make_judge(base, place) if work.method == "ppo" else GivenReward(rows)
        given = {"sampler": sampler, "reward": judge, "prompts": prompts}
    elif work.method == "dpo":
        given = {"pairs": _pairs(place)}
    else:
        given = {"unpaired": [Unpaired(_prompt(row), _message(row["completion"]), row["label"]) for row in rows]}
    with TemporaryDirectory() as directory:
        context = PolicyContext(
            base, "policy", None, settings_of(work), 0, Path(directory), "bench", progress=steps, **given
        )
        policy_method(work.method)(context)
    place.order.write_text(json.dumps(sampler.asked))


TRAIN: dict[str, Callable[[Base, Place, Steps], None]] = {"sft": train_sft, "reward": train_reward}


def main(place: Place) -> None:
    work = place.work
    torch.set_num_threads(work.threads)
    base, meter, steps = load_base(place.model, device=work.device, dtype=work.dtype), Meter(work.device), Steps()
    warm(base.model)
    load_adapter(base, "policy", place.adapter)
    meter.leave_out_tokenising(base.tokenizer)
    meter.begin()
    with meter.on():
        TRAIN.get(work.method, train_policy)(base, place, steps)
    meter.leave_out(steps.sampling_s)
    sys.stdout.write(json.dumps(meter.read(fmean(steps.losses))) + "\n")


def _pairs(place: Place) -> list[Preference]:
    return [Preference(_prompt(row), _message(row["chosen"]), _message(row["rejected"])) for row in place.rows]


def _prompt(row: Row, name: str = "") -> Prompt:
    return Prompt(row["prompt"], prompt_id=name)


def _message(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


if __name__ == "__main__":
    if "BENCH_PROFILE" in os.environ:
        import cProfile

        cProfile.run("main(Place(Path(sys.argv[1]), sys.argv[2]))", os.environ["BENCH_PROFILE"])
    else:
        main(Place(Path(sys.argv[1]), sys.argv[2]))
