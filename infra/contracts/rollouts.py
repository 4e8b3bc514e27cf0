"""Rollouts: the steps by which a new adapter earns its traffic, and what was seen at each."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from infra.contracts.base import Contract
from infra.contracts.manifests import Interval, Verdict

HOUR_S, DAY_S = 3_600.0, 86_400.0


class StepKind(StrEnum):
    SHADOW = "shadow"  # requests are mirrored: nobody sees the answers
    CANARY = "canary"


class Inconclusive(StrEnum):
    """What becomes of a step whose time is over and whose evidence decides nothing."""

    WAIT = "wait"
    ADVANCE = "advance"
    ABORT = "abort"
    ASK = "ask"  # a person


class RolloutEvent(Contract):
    """Body of `thumbwheel.rollout.v1`: a rollout was asked for, came to another state, or to its next step."""

    rollout_id: str
    alias: str
    kind: str
    version: str
    from_version: str
    before: str | None = Field(None, description="The state it left; none when it was asked for.")
    state: str
    step: int = Field(description="From 0; as many as there are steps where it answers, or is to answer, everybody.")
    steps: int = Field(description="How many it has.")
    actor: str = Field(description="Who asked for the rollout.")
    reason: str
    error: str | None = Field(None, description="Why it failed or was aborted.")


class Step(Contract):
    """How much traffic a step takes, what it must have seen, and how long. A step ends early where it must abort."""

    kind: StepKind = StepKind.CANARY
    share: float = Field(gt=0, le=1, description="Of raters: answered by the challenger, or mirrored to it.")
    pairs: float = Field(0, ge=0, le=1, description="Of requests for two answers: those that get one of each arm.")
    min_votes: int = Field(0, ge=0, description="On the challenger, thumbs, ratings and choices together.")
    min_answers: int = Field(0, ge=0, description="By the challenger.")
    min_s: float = Field(0, ge=0, description="Shortest time, so that it sees more than one hour of the day.")
    max_s: float = Field(7 * DAY_S, gt=0, description="Then `on_inconclusive` says how it goes on.")
    margin: float = Field(1, ge=0, le=1, description="Largest drop of the vote rate that must be ruled out to pass.")
    segment_margin: float = Field(
        1, ge=0, le=1, description="The same of each segment by itself, once enough of its raters were met."
    )
    on_inconclusive: Inconclusive = Inconclusive.ASK

    @property
    def title(self) -> str:
        return f"{self.kind} {self.share:.3g}" if self.share < 0.01 else f"{self.kind} {self.share:.0%}"


STEPS = (
    Step(kind=StepKind.SHADOW, share=0.1, min_answers=100, max_s=DAY_S, on_inconclusive=Inconclusive.ADVANCE),
    Step(share=0.01, min_answers=50, min_s=HOUR_S, max_s=DAY_S, on_inconclusive=Inconclusive.ADVANCE),
    Step(share=0.05, pairs=0.5, min_votes=20, min_s=HOUR_S),
    Step(share=0.25, pairs=0.5, min_votes=100, min_s=HOUR_S, margin=0.15),
    Step(share=0.5, pairs=0.5, min_votes=200, min_s=HOUR_S, margin=0.05, segment_margin=0.3),
)


class Finding(Contract):
    """One monitor at one look. `interval` holds at all looks together, at a level of its own; a guard has a limit."""

    name: str
    verdict: Verdict
    interval: Interval | None = None
    threshold: float | None = None
    reason: str


class Look(Contract):
    """What the controller knew when it decided last. FAIL of any finding aborts; `smallest_drop` was stated before."""

    at: datetime
    step: int
    votes: int = 0  # on the challenger, in this step
    answers: int = 0
    findings: list[Finding] = []
    smallest_drop: float | None = None
    verdict: Verdict = Verdict.INCONCLUSIVE
    reason: str = ""
