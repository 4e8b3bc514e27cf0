"""Nobody, and no prompt, steers the policy by volume: each may give so many judgements and no more."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from feedback.judgement import Judgement


@dataclass(frozen=True, slots=True)
class RaterCap:
    """At most `most` judgements of one rater in one dataset; a ranking counts once per pair that it orders."""

    most: int
    reason: str = "rater_cap"

    def rejected(self, judgements: Sequence[Judgement]) -> set[str]:
        return _beyond(judgements, self.most, lambda judgement: judgement.unit)


@dataclass(frozen=True, slots=True)
class PromptCap:
    """At most `most` judgements of one prompt cluster in one dataset, counted alike."""

    most: int
    reason: str = "prompt_cap"

    def rejected(self, judgements: Sequence[Judgement]) -> set[str]:
        return _beyond(judgements, self.most, lambda judgement: judgement.prompt_id)


def _beyond(judgements: Sequence[Judgement], most: int, of: Callable[[Judgement], str]) -> set[str]:
    """Who stays is drawn by a hash of the event id: neither the first nor the last are favoured."""
    taken: Counter[str] = Counter()
    beyond: set[str] = set()
    for judgement in sorted(judgements, key=_lot):
        cost = max(1, len(judgement.strict()))
        if taken[of(judgement)] + cost > most:
            beyond.add(judgement.event_id)
        else:
            taken[of(judgement)] += cost
    return beyond


def _lot(judgement: Judgement) -> str:
    return hashlib.sha256(judgement.event_id.encode()).hexdigest()
