"""The shape of report.json."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Example(_Result):
    """One report question answered by the base and by the version served in the end."""

    question: str
    before: str
    after: str


class BaseResult(_Result):
    """The untrained model on the report questions. `greedy_win_rate` is its greedy against its own sampled answers."""

    correct_rate: float
    mean_length: float  # words
    greedy_win_rate: float
    greedy_win_rate_ci: list[float]
    greedy_correct_rate: float
    styles: dict[str, float]


class StepResult(_Result):
    """One step by which a version earned its traffic, with the votes that it got there."""

    title: str
    votes: int
    seconds: float


class CycleResult(_Result):
    """One turn. The gold figures are those of the version served at its end, which a declined cycle leaves as it was.

    `correct_drop_ci` is the paired interval of the base's share of right answers minus the served version's.
    """

    cycle: int
    version: str | None
    served: str
    state: str
    dataset_sha256: str | None
    pairs: int
    reward_accuracy: float | None
    kl: float | None
    mean_length: float
    gold_win_rate: float
    gold_win_rate_ci: list[float]
    correct_rate: float
    correct_drop: float
    correct_drop_ci: list[float]
    gates: dict[str, str]
    decision: str
    steps: list[StepResult]
    swap_ms: float | None
    drain_ms: float | None
    seconds: float
    styles: dict[str, float]
    answers: int


class Comparison(_Result):
    win_rate: float
    ci: list[float]


class Results(_Result):
    """The whole run. Times in seconds unless the name says otherwise; rates are shares between 0 and 1."""

    seed: int
    votes: str
    setup_s: float | None
    wall_s: float
    stages: dict[str, float]
    base: BaseResult
    last_vs_first: Comparison
    requests: int
    failed_requests: int
    mixed_version_answers: int
    failures: list[str]
    votes_acknowledged: int
    votes_stored: int
    votes_refused: int
    raters: dict[str, int]
    cycles: list[CycleResult]
    rollback_ms: float | None
    rollforward_ms: float | None
    examples: list[Example]
    lineage: list[dict[str, Any]]
