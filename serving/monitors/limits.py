"""What a rollout may lose, and how the chance of a false abort is shared by all that may abort."""

from dataclasses import dataclass, fields
from typing import Self

from infra.settings import ServingSettings

GUARDS = ("errors", "latency", "length", "refusals", "thumbs_down")
CHECKS = ("segments", "assignment", "voting", "shadow_judge")
PREFIX = "rollout_"
# Users' verdicts get most of it: false aborts come from them, while the others stay far from their limits.
PARTS = {"vote_rate": 1 / 2, "pairs": 1 / 4, **dict.fromkeys((*CHECKS, *GUARDS), 1 / 4 / len((*CHECKS, *GUARDS)))}


@dataclass(frozen=True, slots=True)
class Limits:
    """As the settings `serving.rollout_...` of the same names say, which explain them; `judge_margin` is the gate's."""

    alpha: float
    min_raters: int
    rater_votes: float
    error_rise: float
    latency_ratio: float
    length_ratio: float
    refusal_rise: float
    thumbs_down_rise: float
    voting_odds: float
    judge_margin: float
    segment_drop: float

    @classmethod
    def of(cls, settings: ServingSettings) -> Self:
        own = [field.name for field in fields(cls) if field.name != "judge_margin"]
        return cls(**{name: getattr(settings, PREFIX + name) for name in own}, judge_margin=settings.judge_margin)

    def alpha_of(self, monitor: str) -> float:
        """The chance that this one aborts falsely, at all looks together."""
        return self.alpha * PARTS[monitor]
