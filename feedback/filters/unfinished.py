"""A vote on an answer that broke off says more about the failure than about the answer.

An answer cut by the length limit was shown as it is, so it stays; its rows say `length`.
"""

from dataclasses import dataclass

from feedback.judgements import conversation
from feedback.judgements.judgement import Judgement

WHOLE = frozenset({"stop", "length", "tool_calls", "function_call", "content_filter"})


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Requests that failed or were cancelled never get here: see `feedback.judgements.exchange`."""

    reason: str = "unfinished"

    def rejects(self, judgement: Judgement) -> bool:
        return any(
            answer.finish_reason not in WHOLE or conversation.is_empty(answer.message) for answer in judgement.answers
        )
