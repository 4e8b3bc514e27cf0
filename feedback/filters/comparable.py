"""A choice between answers to different questions, or between twins, is no preference."""

from dataclasses import dataclass

from feedback.judgements.judgement import COMPARISONS, Judgement


@dataclass(frozen=True, slots=True)
class DifferentPrompts:
    reason: str = "different_prompts"

    def rejects(self, judgement: Judgement) -> bool:
        return len({exchange.prompt_id for exchange in judgement.exchanges}) > 1


@dataclass(frozen=True, slots=True)
class IdenticalAnswers:
    """Of a ranking only as a whole: its twins are left out pair by pair."""

    reason: str = "identical_answers"

    def rejects(self, judgement: Judgement) -> bool:
        return judgement.verdict in COMPARISONS and len({answer.digest for answer in judgement.answers}) == 1
