"""One long training, step by step: the reward it follows, the held-out one, and the gold that neither knows."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.goldbed.bed import START, Bed, make_bed, policy_context, settings_for
from tests.goldbed.measuring import measure
from trainer.batches import Encoded
from trainer.methods.policy import policy_method
from trainer.model import copy_adapter
from trainer.observation import GAIN, KL

EVERY = 4  # steps from one measurement of gold to the next
POLICY = "policy"


@dataclass(frozen=True, slots=True)
class Look:
    """Gold on unseen things of the policy that step `step` begins with."""

    step: int
    gold: float
    kl: float


@dataclass(frozen=True, slots=True)
class Trajectory:
    seed: int
    looks: list[Look]
    history: list[dict[str, float]]
    stopped: str = ""
    kept: dict[str, float] = field(default_factory=dict)

    def gold_at(self, step: int) -> float:
        """Between two looks on the straight line."""
        after = next((index for index, look in enumerate(self.looks) if look.step >= step), len(self.looks) - 1)
        late, early = self.looks[after], self.looks[max(0, after - 1)]
        share = 1.0 if late.step == early.step else min(1.0, (step - early.step) / (late.step - early.step))
        return early.gold + share * (late.gold - early.gold)

    def series(self, name: str) -> list[float]:
        return [step[name] for step in self.history]

    @property
    def proxy(self) -> list[float]:
        return self.series("proxy_gain")

    @property
    def held_out(self) -> list[float]:
        return self.series(GAIN)

    @property
    def kl(self) -> list[float]:
        return self.series(KL)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> "Trajectory":
        return cls(**{**found, "looks": [Look(**look) for look in found["looks"]]})


class Noted:
    """A reward model whose every step is noted as gain over the start's answers to the same prompts."""

    def __init__(self, bed: Bed, per_prompt: int) -> None:
        self._bed, self._per_prompt = bed, per_prompt
        self._starts = bed.start_scores(bed.reward)
        self.gains: list[float] = []

    def score_encoded(self, rows: Sequence[Encoded], base_logps: Sequence[Tensor] | None = None) -> Tensor:
        scores_S = self._bed.reward.score_encoded(rows)
        starts_P = torch.tensor([self._starts[tuple(row.prompt)] for row in rows[:: self._per_prompt]])
        self.gains.append(float((scores_S.view(-1, self._per_prompt).mean(-1) - starts_P).mean()))
        return scores_S


def follow(directory: Path, seed: int, **wanted: Any) -> Trajectory:
    """Trains as the settings say; with `policy_guard` off it goes on to its last step."""
    bed = make_bed(directory, seed)
    noted, looks = Noted(bed, settings_for().policy_samples), [_look(bed, 0, START)]

    def progress(step: int, total: int, metrics: dict[str, float]) -> None:
        metrics["proxy_gain"] = noted.gains[-1]
        if step % EVERY == 0:
            looks.append(_look(bed, step, POLICY))

    copy_adapter(bed.base, START, POLICY)
    context = policy_context(
        bed, directory, POLICY, seed, progress=progress, reward=noted, held_out=bed.held_out, **wanted
    )
    result = policy_method(context.settings.method)(context)
    kept = measure(bed.base, POLICY)
    return Trajectory(seed, looks, result.history, result.stopped or "", {"gold": kept.gold, "kl": kept.kl})


def _look(bed: Bed, step: int, adapter: str) -> Look:
    found = measure(bed.base, adapter, samples=8)
    return Look(step, found.gold, found.kl)
