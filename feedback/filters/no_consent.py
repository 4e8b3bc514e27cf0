"""Nobody's words are trained on without their yes: the prompt's owner's and the rater's."""

from dataclasses import dataclass

from feedback.consent import Said, covers
from feedback.judgement import Judgement


@dataclass(frozen=True, slots=True)
class NoConsent:
    reason: str = "no_consent"

    def rejects(self, judgement: Judgement) -> bool:
        envelope = judgement.vote.envelope
        judge = Said(envelope.rater, envelope.consent.train, envelope.consent.explicit)
        return not all(covers(exchange.owner, judge) for exchange in judgement.exchanges)
