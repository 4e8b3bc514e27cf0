"""Who says both that one text is better than another and the reverse has told us nothing about either."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from feedback.judgement import Judgement


@dataclass(frozen=True, slots=True)
class SelfContradiction:
    """All sides of the contradiction go: which one was meant cannot be known."""

    reason: str = "self_contradiction"

    def rejected(self, judgements: Sequence[Judgement]) -> set[str]:
        held: dict[tuple[str, str, str], set[tuple[str, str]]] = defaultdict(set)
        for judgement in judgements:
            held[_asked(judgement)] |= judgement.claims
        return {
            judgement.event_id
            for judgement in judgements
            if any((worse, better) in held[_asked(judgement)] for better, worse in judgement.claims)
        }


def _asked(judgement: Judgement) -> tuple[str, str, str]:
    return judgement.unit, judgement.prompt_id, judgement.vote.body.name
