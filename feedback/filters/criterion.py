"""Which answer is shorter or funnier is not which is better: only the overall choice makes rows."""

from dataclasses import dataclass

from feedback.judgements.judgement import COMPARISONS, Judgement

OVERALL = "overall"


@dataclass(frozen=True, slots=True)
class OtherCriterion:
    reason: str = "other_criterion"

    def rejects(self, judgement: Judgement) -> bool:
        return judgement.verdict in COMPARISONS and judgement.vote.body.name != OVERALL
