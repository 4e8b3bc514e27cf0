"""The filters in their order: what may not be used, what means nothing, what is noise, what is too much."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from feedback.filters.base import Each, Filter
from feedback.filters.caps import PromptCap, RaterCap
from feedback.filters.comparable import DifferentPrompts, IdenticalAnswers
from feedback.filters.criterion import OtherCriterion
from feedback.filters.duplicates import Duplicates
from feedback.filters.neutral import NeutralRating
from feedback.filters.no_consent import NoConsent
from feedback.filters.retention import RetentionEnded
from feedback.filters.self_contradiction import SelfContradiction
from feedback.filters.too_fast import TooFast
from feedback.filters.unfinished import Unfinished
from feedback.judgement import Judgement
from infra.settings import FeedbackSettings


def make_chain(settings: FeedbackSettings, as_of: datetime) -> list[Filter]:
    return [
        Each(NoConsent()),
        Each(RetentionEnded(as_of)),
        Each(Unfinished()),
        Each(DifferentPrompts()),
        Each(OtherCriterion()),
        Each(IdenticalAnswers()),
        Each(NeutralRating()),
        Each(TooFast(settings.too_fast_share, settings.too_fast_words_per_second)),
        SelfContradiction(),
        Duplicates(),
        RaterCap(settings.rater_cap),
        PromptCap(settings.prompt_cap),
    ]


def apply(filters: Sequence[Filter], judgements: Sequence[Judgement]) -> tuple[list[Judgement], Counter[str]]:
    """What is left, and how many each reason took."""
    kept = list(judgements)
    dropped: Counter[str] = Counter()
    for each in filters:
        out = each.rejected(kept)
        kept = [judgement for judgement in kept if judgement.event_id not in out]
        dropped[each.reason] += len(out)
    return kept, +dropped
