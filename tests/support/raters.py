"""Raters of a rollout as tallies, for those who judge it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

from infra.contracts.rollouts import Step
from infra.registry.tallies import Tally, TallyArm
from infra.settings import ServingSettings
from serving.monitors.columns import Columns
from serving.monitors.limits import Limits
from serving.monitors.subject import Subject

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = Limits.of(ServingSettings())
NUMBERS = count()


def make_tally(arm: TallyArm = TallyArm.CHAMPION, **overrides: object) -> Tally:
    """Of a new rater, with ten answers of which nothing is bad, and no vote."""
    number = next(NUMBERS)
    known = {
        "rollout_id": "r1", "step": 0, "arm": arm, "unit": f"rater-{number}", "share": 0.5,
        "first_at": BEGAN + timedelta(seconds=number), "answers": 10, "rateable": 10, "tokens": 200, "seconds": 10.0,
    }  # fmt: skip
    return Tally(**{**known, **overrides})  # type: ignore[arg-type]  # one dict for all fields


def make_arms(raters: int, *, champion: dict[str, object], challenger: dict[str, object]) -> list[Tally]:
    """Turn by turn, half of the raters in each arm."""
    arms = (TallyArm.CHAMPION, champion), (TallyArm.CHALLENGER, challenger)
    return [make_tally(arm, **said) for _ in range(raters // 2) for arm, said in arms]


def voters(arm: TallyArm, raters: int, ups: Sequence[int], **overrides: object) -> Iterator[Tally]:
    """One vote each; `ups` are repeated."""
    return (make_tally(arm, votes=1, ups=ups[place % len(ups)], **overrides) for place in range(raters))


def alternating(*rows: Iterator[Tally]) -> list[Tally]:
    return [tally for together in zip(*rows, strict=True) for tally in together]


def make_subject(tallies: Sequence[Tally], *steps: Step, step: int = 0) -> Subject:
    return Subject(steps or (Step(share=0.5, min_votes=100, margin=0.2),), step, Columns.of(tallies), LIMITS)
