"""Our side of one case of the trainer benchmark, through the trainer's public functions; prints a JSON line."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import fmean
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
from trainer.data import Demonstration, Preference, Prompt, Unpaired
from trainer.lines import Encoded
from trainer.methods import reward, sft
from trainer.methods.policy import PolicyContext, policy_method
from trainer.model import Base, load_adapter, load_base, using
from trainer.rewarding import Head, RewardModel
from trainer.sampling import Sampled

Row = dict[str, Any]


class Steps:
    """Keeps each step's loss, which prompts were asked for, and what sampling took beside the sampler's own time."""

    def __init__(self, meter: Meter) -> None:
        self.losses: list[float] = []
        self.asked: list[int] = []
        self.sampling_s = 0.0
        self._meter = meter

    def __call__(self, _step: int, _total: int, metrics: dict[str, float]) -> None:
        self.losses.append(metrics["loss"])
        self.sampling_s += metrics.get("time/sampling", 0.0)

    @contextmanager
    def sampling(self) -> Iterator[None]:
        began = time.perf_counter()
        with self._meter.aside():
            yield
        self.sampling_s -= time.perf_counter() - began


class PreparedSampler:
    """Hands out the answers that were made beforehand, as if the policy had said them, and notes who was asked for."""

    apart = False

    def __init__(self, base: Base, rows: Sequence[Row], steps: Steps) -> None:
        self._base, self._rows, self._steps = base, rows, steps

    def sample(self, prompts: Sequence[Prompt], **_wanted: Any) -> list[list[Sampled]]:
        picked = [int(prompt.prompt_id) for prompt in prompts]
        self._steps.asked += picked
        with self._steps.sampling(), using(self._base, "policy"), torch.no_grad():
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
        logits_TV = self._base.model(input_ids=whole, logits_to_keep=len(ids) + 1).logits[0, :-1].float()
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


def sft_run(base: Base, place: Place, steps: Steps) -> Callable[[], Any]:
    rows = [Demonstration(_prompt(row), _message(row["completion"])) for row in place.rows]
    return partial(sft.train, base, rows, adapter="policy", settings=settings_of(place.work), seed=0, progress=steps)


def reward_run(base: Base, place: Place, steps: Steps) -> Callable[[], Any]:
    settings = settings_of(place.work)
    return partial(
        reward.train, base, _pairs(place), [], name="reward", settings=settings, seed=0, features=False, progress=steps
    )


def make_judge(base: Base, place: Place) -> RewardModel:
    """PPO's, whose pass is timed with the rest."""
    load_adapter(base, "reward", place.adapter)
    judge = RewardModel(base, "reward", Head(base.hidden_size, features=False))
    judge.head.hidden.weight.data.copy_(reward_weights(base.hidden_size))
    return judge


def policy_run(base: Base, place: Place, steps: Steps) -> Callable[[], Any]:
    work = place.work
    context = PolicyContext(
        base, "policy", None, settings_of(work), 0, place.directory, "bench", progress=steps,
        **_material(base, place, steps),
    )  # fmt: skip
    return partial(policy_method(work.method), context)


def _material(base: Base, place: Place, steps: Steps) -> dict[str, Any]:
    """What the method learns from."""
    work, rows = place.work, place.rows
    if work.method in SAMPLING:
        judge = make_judge(base, place) if work.method == "ppo" else GivenReward(rows)
        prompts = [_prompt(row, str(at)) for at, row in enumerate(rows)]
        return {"sampler": PreparedSampler(base, rows, steps), "reward": judge, "prompts": prompts}
    if work.method == "dpo":
        return {"pairs": _pairs(place)}
    return {"unpaired": [Unpaired(_prompt(row), _message(row["completion"]), row["label"]) for row in rows]}


RUNS: dict[str, Callable[[Base, Place, Steps], Callable[[], Any]]] = {"sft": sft_run, "reward": reward_run}


def main(place: Place) -> None:
    work = place.work
    torch.set_num_threads(work.threads)
    base, meter = load_base(place.model, device=work.device, dtype=work.dtype), Meter(work.device)
    steps = Steps(meter)
    warm(base.model)
    load_adapter(base, "policy", place.adapter)
    meter.leave_out_tokenising(base.tokenizer)
    train = RUNS.get(work.method, policy_run)(base, place, steps)
    meter.begin()
    with meter.on():
        train()
    meter.leave_out(steps.sampling_s)
    place.order.write_text(json.dumps(steps.asked))
    sys.stdout.write(json.dumps(meter.read(fmean(steps.losses))) + "\n")


def _pairs(place: Place) -> list[Preference]:
    return [Preference(_prompt(row), _message(row["chosen"]), _message(row["rejected"])) for row in place.rows]


def _prompt(row: Row, name: str = "") -> Prompt:
    return Prompt(row["prompt"], prompt_id=name)


def _message(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


if __name__ == "__main__":
    main(Place(Path(sys.argv[1]), sys.argv[2]))
