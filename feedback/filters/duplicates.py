"""Saying the same of the same texts again adds nothing: the first time counts."""

from collections.abc import Sequence
from dataclasses import dataclass

from feedback.judgement import Judgement


@dataclass(frozen=True, slots=True)
class Duplicates:
    reason: str = "duplicate"

    def rejected(self, judgements: Sequence[Judgement]) -> set[str]:
        seen: set[tuple[str, ...]] = set()
        again: set[str] = set()
        for judgement in sorted(judgements, key=lambda judgement: judgement.vote.order):
            if judgement.stance in seen:
                again.add(judgement.event_id)
            seen.add(judgement.stance)
        return again
