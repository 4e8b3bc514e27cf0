"""One answer of a rollout, reduced to what is counted of it: nothing of what anybody wrote stays."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from feedback.tallying.units import Unit
from feedback.votes import Answered
from infra.contracts.events import Choice, Inference, InferenceStatus
from infra.probes import refuses
from infra.registry.tallies import TallyArm

CHAMPION, CHALLENGER = TallyArm.CHAMPION, TallyArm.CHALLENGER
PAIR = frozenset({CHAMPION, CHALLENGER})
ALONE = PAIR | {TallyArm.SHADOW}


@dataclass(frozen=True, slots=True)
class Answer:
    """`arms` are those of its choices, by index. `propensity` is that of the arm that answered.

    `judgeable` is what nobody was shown and a judge may read: its content is kept, and consent allows it.
    """

    response_id: str
    unit: Unit
    occurred_at: datetime
    segment: str
    step: int
    arm: TallyArm
    arms: Mapping[int, str]
    propensity: float
    failed: bool
    rateable: bool
    tokens: int
    seconds: float
    refuses: bool
    judgeable: bool

    @property
    def order(self) -> tuple[datetime, str]:
        return self.occurred_at, self.response_id


def answer_of(event: Answered) -> Answer | None:
    """None where it is no evidence: pinned, planted as a check question, or left by the client before its end."""
    envelope, body = event.envelope, event.body
    arm = _arm(body)
    if arm is None or body.rollout_step is None or body.check or body.status is InferenceStatus.CANCELLED:
        return None
    failed, shown = body.status is InferenceStatus.FAILED, arm is not TallyArm.SHADOW
    return Answer(
        response_id=body.response_id,
        unit=Unit.of(envelope.rater, envelope.session_id, body.response_id),
        occurred_at=envelope.occurred_at,
        segment=envelope.segment or "",
        step=body.rollout_step,
        arm=arm,
        arms={choice.index: choice.arm for choice in body.choices},
        propensity=body.choices[0].arm_propensity if body.choices else 0.0,
        failed=failed,
        rateable=body.rateable and shown and not failed,
        tokens=_tokens(body),
        seconds=(body.ended_at - body.started_at).total_seconds(),
        refuses=any(refuses(_text(choice)) for choice in body.choices),
        judgeable=not (shown or failed) and body.stored and envelope.consent.train,
    )


def _arm(body: Inference) -> TallyArm | None:
    arms = {choice.arm for choice in body.choices}
    if body.shadow_of:
        return TallyArm.SHADOW
    if arms == PAIR:
        return TallyArm.PAIR
    return TallyArm(arms.pop()) if len(arms) == 1 and arms <= ALONE else None


def _tokens(body: Inference) -> int:
    """Of all its choices; where no content may be kept, as the engine counted them."""
    return sum(len(choice.token_ids) for choice in body.choices) or int((body.usage or {}).get("completion_tokens", 0))


def _text(choice: Choice) -> str:
    content = (choice.message or {}).get("content")
    return content if isinstance(content, str) else ""
