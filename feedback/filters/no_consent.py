"""Nobody's words are trained on without their yes: the prompt's owner's and the rater's.

A check question has no owner to ask, and is not trained on either: there the rater's yes is enough.
"""

from dataclasses import dataclass

from feedback.judgements.consent import Said, covers
from feedback.judgements.exchange import Exchange
from feedback.judgements.judgement import Judgement

PLANTED = Said(rater=None, train=True, explicit=False)


@dataclass(frozen=True, slots=True)
class NoConsent:
    reason: str = "no_consent"

    def rejects(self, judgement: Judgement) -> bool:
        envelope = judgement.vote.envelope
        judge = Said(envelope.rater, envelope.consent.train, envelope.consent.explicit)
        return not all(covers(_owner(exchange), judge) for exchange in judgement.exchanges)


def _owner(exchange: Exchange) -> Said:
    return exchange.owner if exchange.event.body.check is None else PLANTED
