"""Three stars of five are neither good nor bad."""

from dataclasses import dataclass

from feedback.judgements.judgement import Judgement, Verdict


@dataclass(frozen=True, slots=True)
class NeutralRating:
    reason: str = "neutral_rating"

    def rejects(self, judgement: Judgement) -> bool:
        return judgement.verdict is Verdict.NEUTRAL
