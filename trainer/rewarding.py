"""The reward model: the base with a LoRA of its own and a scalar head on the answer's last hidden state.

A tiny base's hidden state knows the style of an answer and not whether it is right; how probable the bare base finds
the answer's tokens does tell (recipes.md). So the head may see three numbers about that as well.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from infra.base_model import file_sha256
from trainer.batches import Batch, all_logprobs, encode, hidden_states, in_batches, make_batch
from trainer.data import Message, Prompt
from trainer.errors import TrainerError
from trainer.lines import Encoded
from trainer.model import Base, load_adapter, remove_adapter, save_adapter, using

HEAD = "head.safetensors"
DESCRIPTION = "reward.json"
FEATURES = ("mean", "min", "mean of the lowest three")

Conversation = tuple[Prompt | Sequence[Message], str | Message]


class RewardMismatch(TrainerError):
    """A reward model was trained on another base."""


class Head(nn.Module):
    """Hidden state, and features where there are any, to one number. Features are standardised by training rows."""

    mean_F: Tensor
    std_F: Tensor

    def __init__(self, hidden: int, *, features: bool) -> None:
        super().__init__()
        self.hidden = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.hidden.weight)
        self.features = nn.Linear(len(FEATURES), 1, bias=False) if features else None
        if self.features is not None:
            nn.init.zeros_(self.features.weight)
        self.log_tie = nn.Parameter(torch.zeros(()))  # Davidson's log nu; only trained where there are ties
        self.register_buffer("mean_F", torch.zeros(len(FEATURES)))
        self.register_buffer("std_F", torch.ones(len(FEATURES)))

    def standardise_by(self, features_BF: Tensor) -> None:
        self.mean_F.copy_(features_BF.mean(0))
        self.std_F.copy_(features_BF.std(0).clamp(min=1e-6))

    def forward(self, hidden_BH: Tensor, features_BF: Tensor | None) -> Tensor:
        scores_B: Tensor = self.hidden(hidden_BH.float())[:, 0]
        if self.features is not None and features_BF is not None:
            scores_B = scores_B + self.features((features_BF - self.mean_F) / self.std_F)[:, 0]
        return scores_B


class Reward(ABC):
    """Scores answers; differences of scores are log-odds of being preferred. One model, or an ensemble.

    `name` is of an adapter on the base. Scores are divided by `temperature`, fitted on raters who trained nothing.
    """

    base: Base
    name: str
    temperature: float = 1.0
    stopped: str | None = None  # why its training ended before its last step, if it did

    @property
    @abstractmethod
    def sees_features(self) -> bool:
        """Whether log-probabilities under the bare base are part of the score."""

    @property
    @abstractmethod
    def style_coefficients(self) -> Mapping[str, float]:
        """What style control found beside the scores, in log-odds per standard deviation; empty without it."""

    @abstractmethod
    def member_scores(self, rows: Sequence[Encoded], base_logps: Sequence[Tensor] | None = None) -> Tensor:
        """[B, M] on the CPU: every member's score of each answer."""

    @abstractmethod
    def combine(self, scores_BM: Tensor) -> Tensor:
        """[B]: what the members' scores come to."""

    @abstractmethod
    def save(self, directory: Path, metrics: dict[str, Any] | None = None) -> str:
        """Returns a SHA-256 of the adapters' weights."""

    @abstractmethod
    def close(self) -> None:
        """Takes its adapters off the base."""

    def score(self, conversations: Sequence[Conversation]) -> np.ndarray:
        """One number per (prompt, answer)."""
        rows = [encode(self.base, _as_prompt(prompt), answer) for prompt, answer in conversations]
        return self.score_encoded(rows).numpy()

    def score_encoded(self, rows: Sequence[Encoded], base_logps: Sequence[Tensor] | None = None) -> Tensor:
        """[B] on the CPU. `base_logps` are the answers' under the bare base, where the caller has them already."""
        return self.combine(self.member_scores(rows, base_logps))

    def disagreement(self, rows: Sequence[Encoded], base_logps: Sequence[Tensor] | None = None) -> Tensor:
        """[B]: standard deviation of the members' scores; 0 of a single model."""
        return deviation(self.member_scores(rows, base_logps))


class RewardModel(Reward):
    """`offset` is what answers that it was centred on score on average; it is taken off every score."""

    def __init__(self, base: Base, name: str, head: Head) -> None:
        self.base = base
        self.name = name
        self.head = head.to(base.device)
        self.offset = 0.0
        self._style: dict[str, float] = {}

    @property
    def sees_features(self) -> bool:
        return self.head.features is not None

    @property
    def style_coefficients(self) -> Mapping[str, float]:
        return self._style

    @style_coefficients.setter
    def style_coefficients(self, found: Mapping[str, float]) -> None:
        self._style = dict(found)

    def member_scores(self, rows: Sequence[Encoded], base_logps: Sequence[Tensor] | None = None) -> Tensor:
        raw_B = self.raw_scores(rows, self.features(rows, base_logps))
        return ((raw_B - self.offset) / self.temperature)[:, None]

    def combine(self, scores_BM: Tensor) -> Tensor:
        return scores_BM[:, 0]

    @torch.no_grad()
    def raw_scores(self, rows: Sequence[Encoded], features_BF: Tensor | None) -> Tensor:
        """[B] on the CPU, as the head gives them."""
        scores_B, world = torch.zeros(len(rows), device=self.base.device), self.base.world
        with using(self.base, self.name):
            for picked, counts in world.deal(in_batches(self.base, rows)):
                batch = make_batch(self.base, [rows[index] for index in picked])
                scores_b = self.scores(batch, None if features_BF is None else features_BF[picked])
                if counts:
                    scores_B[picked] = scores_b
        return world.add(scores_B).cpu()

    def scores(self, batch: Batch, features_BF: Tensor | None) -> Tensor:
        """[B] with gradient, where gradients are on; the caller has this model's adapter on."""
        scores_B: Tensor = self.head(batch.ending(hidden_states(self.base, batch)), features_BF)
        return scores_B

    def features(self, rows: Sequence[Encoded], base_logps: Sequence[Tensor] | None = None) -> Tensor | None:
        """[B, 3] under the adapter-free base, or None where the head has no use for them."""
        if not self.sees_features or not rows:
            return None
        return bare_features(self.base, rows, base_logps)

    def save(self, directory: Path, metrics: dict[str, Any] | None = None) -> str:
        sha256 = save_adapter(self.base, self.name, directory)
        save_file({key: value.contiguous() for key, value in self.head.state_dict().items()}, directory / HEAD)
        described = {
            "base_revision": self.base.revision,
            "features": self.sees_features,
            "head_sha256": file_sha256(directory / HEAD),
            "offset": self.offset,
            "temperature": self.temperature,
            "style_coefficients": self._style,
            "metrics": metrics or {},
        }
        (directory / DESCRIPTION).write_text(json.dumps(described, indent=1, sort_keys=True))
        return sha256

    @classmethod
    def load(cls, base: Base, directory: Path, name: str | None = None) -> "RewardModel":
        """Raises RewardMismatch where it was trained on another base. The name defaults to the directory's."""
        described = read_description(base, directory)
        adapter = (name or directory.name).replace(".", "_")  # module names can't hold a dot
        load_adapter(base, adapter, directory)
        head = Head(base.hidden_size, features=described["features"])
        head.load_state_dict(load_file(directory / HEAD))
        model = cls(base, adapter, head)
        model.offset, model.temperature = described.get("offset", 0.0), described.get("temperature", 1.0)
        model.style_coefficients = described.get("style_coefficients", {})
        return model

    def close(self) -> None:
        remove_adapter(self.base, self.name)


def read_description(base: Base, directory: Path) -> dict[str, Any]:
    """Raises RewardMismatch where it was trained on another base."""
    described: dict[str, Any] = json.loads((directory / DESCRIPTION).read_text())
    if described["base_revision"] != base.revision:
        raise RewardMismatch(
            f"reward model {directory.name} is of base {described['base_revision']}, this is {base.revision}"
        )
    return described


def deviation(scores_BM: Tensor) -> Tensor:
    """[B]: over members, with n - 1; 0 of a single one."""
    return scores_BM.std(1) if scores_BM.shape[1] > 1 else torch.zeros(len(scores_BM))


def bare_features(base: Base, rows: Sequence[Encoded], base_logps: Sequence[Tensor] | None = None) -> Tensor:
    """[B, 3] under the adapter-free base, whose log-probabilities the caller may have already."""
    if base_logps is None:
        with using(base, None):
            base_logps = all_logprobs(base, rows)
    return torch.stack([logprob_features(logps_T) for logps_T in base_logps])


def logprob_features(logps_T: Tensor) -> Tensor:
    """[3], as FEATURES names them."""
    lowest = logps_T.topk(min(3, len(logps_T)), largest=False).values
    return torch.stack([logps_T.mean(), lowest[0], lowest.mean()])


def _as_prompt(prompt: Prompt | Sequence[Message]) -> Prompt:
    return prompt if isinstance(prompt, Prompt) else Prompt(prompt)
