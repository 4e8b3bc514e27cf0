"""How a rollout goes on from its step: a pure function of what it has seen, and for how long."""

from dataclasses import dataclass
from datetime import datetime

from infra.contracts.manifests import Verdict
from infra.contracts.rollouts import Inconclusive, Step
from infra.registry.rollouts import RolloutState
from serving.world import RolloutView

R = RolloutState


@dataclass(frozen=True, slots=True)
class Turn:
    """Where a rollout goes now, and why. RUNNING is the step after this one."""

    target: RolloutState
    reason: str


def next_turn(rollout: RolloutView, at: datetime, *, may_promote: bool) -> Turn | None:
    """None: it stays where it is. What speaks against it ends it in every state; only a running one goes on."""
    if rollout.look is not None and rollout.look.verdict is Verdict.FAIL:
        return Turn(R.ABORTED, rollout.look.reason)
    if rollout.state is not R.RUNNING or rollout.began_at is None:
        return None
    waited_s = (at - rollout.began_at).total_seconds()
    step = rollout.steps[rollout.step]
    if _has_passed(rollout, step, waited_s):
        return _onwards(rollout, "passed", may_promote=may_promote)
    return _inconclusive(rollout, step, may_promote=may_promote) if waited_s >= step.max_s else None


def _has_passed(rollout: RolloutView, step: Step, waited_s: float) -> bool:
    look = rollout.look
    if look is None or look.verdict is not Verdict.PASS:
        return False
    return waited_s >= step.min_s and look.votes >= step.min_votes and look.answers >= step.min_answers


def _onwards(rollout: RolloutView, why: str, *, may_promote: bool) -> Turn:
    title = rollout.steps[rollout.step].title
    if rollout.step + 1 < len(rollout.steps):
        return Turn(R.RUNNING, f"{title} {why}")
    if may_promote:
        return Turn(R.DRAINING, f"{title} {why}")
    return Turn(R.AWAITING_PERSON, f"{title} {why}; serving.auto_promote is off: promote it, or abort it")


def _inconclusive(rollout: RolloutView, step: Step, *, may_promote: bool) -> Turn | None:
    seen = rollout.look.reason if rollout.look else "nothing was seen"
    why = f"decided nothing in {step.max_s:g} s ({seen})"
    match step.on_inconclusive:
        case Inconclusive.WAIT:
            return None
        case Inconclusive.ADVANCE:
            return _onwards(rollout, why, may_promote=may_promote)
        case Inconclusive.ABORT:
            return Turn(R.ABORTED, f"{step.title} {why}")
        case Inconclusive.ASK:
            return Turn(R.AWAITING_PERSON, f"{step.title} {why}: resume it, promote it, or abort it")
