"""What a judge says, as votes like any other: sealed, on the log, labelled as a model's.

No word of the judge is kept: what it says of an answer may quote it, and would outlive the person's key.
"""

import asyncio
from dataclasses import dataclass

from feedback.judging.asking import Choice
from feedback.judging.candidates import Pair
from feedback.votes import Vote
from infra.clock import now
from infra.contracts.events import FEEDBACK_TOPIC, Consent, Feedback, Source
from infra.envelopes import Header, Sealer
from infra.eventlog.base import Position, Producer

NOT_YET = Position(FEEDBACK_TOPIC, -1, -1)
FREELY = Consent(train=True, explicit=True)  # a model has no words of its own to withhold; the prompt's owner has


@dataclass(frozen=True)
class Caster:
    """`rater` is the judge's hash: whoever is erased under it takes its votes along."""

    producer: Producer
    sealer: Sealer
    tenant: str
    rater: str

    def vote(self, pair: Pair, choice: Choice) -> Vote:
        body = Feedback(kind="comparison", name="overall", value=choice, groups=[[pair.a], [pair.b]])
        header = Header(self.tenant, self.rater, source=Source.AI, consent=FREELY, occurred_at=now())
        return Vote(self.sealer.wrap(body, header), body, NOT_YET)

    async def cast(self, vote: Vote) -> None:
        """Returns once it is durable; raises LogUnavailable."""
        line = vote.envelope.model_dump_json().encode()
        await asyncio.wrap_future(self.producer.append(FEEDBACK_TOPIC, vote.body.items[0].response_id, line))
