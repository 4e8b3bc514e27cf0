"""Content that may be kept until a day is not trained on after it."""

from dataclasses import dataclass
from datetime import datetime

from feedback.judgements.judgement import Judgement


@dataclass(frozen=True, slots=True)
class RetentionEnded:
    as_of: datetime
    reason: str = "retention_ended"

    def rejects(self, judgement: Judgement) -> bool:
        envelopes = [judgement.vote.envelope, *(exchange.event.envelope for exchange in judgement.exchanges)]
        ends = [envelope.consent.retain_until for envelope in envelopes]
        return any(end is not None and end <= self.as_of for end in ends)
