"""What one judgement by itself is left out for, in order: what may not be used, what means nothing, what is noise.

What can be told only from many judgements together is decided in `feedback.datasets.selection`.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from feedback.filters.base import Filter
from feedback.filters.comparable import DifferentPrompts, IdenticalAnswers
from feedback.filters.criterion import OtherCriterion
from feedback.filters.neutral import NeutralRating
from feedback.filters.no_consent import NoConsent
from feedback.filters.retention import RetentionEnded
from feedback.filters.too_fast import TooFast
from feedback.filters.unfinished import Unfinished
from feedback.judgements.judgement import Judgement
from infra.settings import FeedbackSettings


def make_chain(settings: FeedbackSettings, as_of: datetime) -> list[Filter]:
    return [
        NoConsent(),
        RetentionEnded(as_of),
        Unfinished(),
        DifferentPrompts(),
        OtherCriterion(),
        IdenticalAnswers(),
        NeutralRating(),
        TooFast(settings.too_fast_share, settings.too_fast_words_per_second),
    ]


def apply(filters: Sequence[Filter], judgements: Sequence[Judgement]) -> tuple[list[Judgement], Counter[str]]:
    """What is left, and how many each reason took; the first that applies counts."""
    kept = list[Judgement]()
    dropped: Counter[str] = Counter()
    for judgement in judgements:
        reason = next((one.reason for one in filters if one.rejects(judgement)), None)
        if reason is None:
            kept.append(judgement)
        else:
            dropped[reason] += 1
    return kept, dropped
