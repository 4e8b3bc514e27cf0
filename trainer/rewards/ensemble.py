"""Several reward models on one base that score as one: where they disagree, none of them knows.

Members differ by seed, order and the raters drawn for them; fine-tuned twins on the same rows share their errors
(Eisenstein et al. 2023, arXiv 2312.09244). What an ensemble makes of its scores is from Coste et al. 2023, arXiv
2310.02743: mean, worst case, and mean less the disagreement, here its standard deviation (their equation 4 has the
variance), so that the weight has no unit.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from trainer.batches import all_logprobs
from trainer.lines import Encoded
from trainer.model import Base, using
from trainer.rewarding import DESCRIPTION, Reward, RewardModel, deviation, read_description

Score = Literal["mean", "worst", "uncertainty"]


class Ensemble(Reward):
    """`name` is the first member's: what begins as a copy of the reward model begins as a copy of that one."""

    def __init__(self, members: Sequence[RewardModel], score: Score = "mean", uncertainty_weight: float = 1.0) -> None:
        self.members = members
        self.base, self.name = members[0].base, members[0].name
        self.score_rule, self.uncertainty_weight = score, uncertainty_weight

    @property
    def sees_features(self) -> bool:
        return any(member.sees_features for member in self.members)

    @property
    def style_coefficients(self) -> Mapping[str, float]:
        """Means over members."""
        found = [member.style_coefficients for member in self.members]
        return {name: sum(each[name] for each in found) / len(found) for name in found[0]}

    @torch.no_grad()
    def member_scores(self, rows: Sequence[Encoded], base_logps: Sequence[Tensor] | None = None) -> Tensor:
        if base_logps is None and self.sees_features:
            with using(self.base, None):
                base_logps = all_logprobs(self.base, rows)  # once for all members
        scores_MB = [member.score_encoded(rows, base_logps) for member in self.members]
        return torch.stack(scores_MB, dim=1) / self.temperature

    def combine(self, scores_BM: Tensor) -> Tensor:
        mean_B = scores_BM.mean(1)
        if self.score_rule == "worst":
            return scores_BM.min(1).values
        if self.score_rule == "uncertainty":
            return mean_B - self.uncertainty_weight * deviation(scores_BM)
        return mean_B

    def save(self, directory: Path, metrics: dict[str, Any] | None = None) -> str:
        hashes = [member.save(directory / _place(number)) for number, member in enumerate(self.members)]
        described = {
            "base_revision": self.base.revision,
            "features": self.sees_features,
            "members": len(self.members),
            "score": self.score_rule,
            "uncertainty_weight": self.uncertainty_weight,
            "temperature": self.temperature,
            "style_coefficients": dict(self.style_coefficients),
            "metrics": metrics or {},
        }
        (directory / DESCRIPTION).write_text(json.dumps(described, indent=1, sort_keys=True))
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    @classmethod
    def load(cls, base: Base, directory: Path, name: str | None = None) -> "Ensemble":
        """Raises RewardMismatch where it was trained on another base. The name defaults to the directory's."""
        described, own = read_description(base, directory), name or directory.name
        members = [
            RewardModel.load(base, directory / _place(number), f"{own}_{number}")
            for number in range(described["members"])
        ]
        ensemble = cls(members, described["score"], described["uncertainty_weight"])
        ensemble.temperature = described["temperature"]
        return ensemble

    def close(self) -> None:
        for member in self.members:
            member.close()


def load_reward(base: Base, directory: Path, name: str | None = None) -> Reward:
    """A saved reward model or ensemble, whichever it is. Raises RewardMismatch where it is of another base."""
    kind = Ensemble if "members" in read_description(base, directory) else RewardModel
    return kind.load(base, directory, name)


def _place(number: int) -> str:
    return f"member-{number}"
