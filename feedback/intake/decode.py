"""From a record on the log to an event that can be handled, or the reason why it never will be."""

from pydantic import ValidationError

from feedback.errors import Undecodable
from feedback.intake.fitting import unfit_body, unfit_envelope
from feedback.votes import Answered, Erased, Vote
from infra.artifacts import MissingArtifact
from infra.contracts.events import (
    ERASURE_TOPIC,
    FEEDBACK_TOPIC,
    INFERENCE_TOPIC,
    Envelope,
    Erasure,
    Feedback,
    Inference,
)
from infra.envelopes import Sealer
from infra.eventlog.base import Record
from infra.sealing import KeyUnknown, SealBroken

Event = Answered | Vote | Erased
TOPICS = (INFERENCE_TOPIC, FEEDBACK_TOPIC, ERASURE_TOPIC)


def decode(record: Record, sealer: Sealer) -> Event:
    """Raises Undecodable, or KeyDestroyed where the person has been erased."""
    try:
        envelope = Envelope.model_validate_json(record.value)
    except ValidationError as error:
        raise Undecodable(f"envelope: {explain(error)}") from None
    if wrong := unfit_envelope(envelope):
        raise Undecodable(f"envelope: {wrong}")
    event = _open(envelope, record, sealer)
    if wrong := unfit_body(event):
        raise Undecodable(f"body: {wrong}", envelope.tenant)
    return event


def _open(envelope: Envelope, record: Record, sealer: Sealer) -> Event:
    try:
        if record.position.topic == INFERENCE_TOPIC:
            return Answered(envelope, sealer.open(envelope, Inference), record.position)
        if record.position.topic == ERASURE_TOPIC:
            return Erased(envelope, sealer.open(envelope, Erasure), record.position)
        return Vote(envelope, sealer.open(envelope, Feedback), record.position)
    except ValidationError as error:
        raise Undecodable(f"body: {explain(error)}", envelope.tenant) from None
    except (SealBroken, KeyUnknown, MissingArtifact) as error:
        raise Undecodable(f"body: {error}", envelope.tenant) from None


def explain(error: ValidationError) -> str:
    """What is wrong and where, without the offending input: that may be what a person wrote."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(str(part) for part in item['loc']) or 'value'}: {item['msg']}" for item in found[:5])
