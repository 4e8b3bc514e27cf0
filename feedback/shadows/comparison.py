"""A shown answer and the mirrored one to the same request: what a judge reads of them, and which of them it prefers."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from feedback.judgements import conversation
from feedback.judgements.conversation import Message, UnsupportedContent
from feedback.votes import Answered
from infra.contracts.events import Inference, InferenceStatus


@dataclass(frozen=True, slots=True)
class Comparison:
    """`texts` has a pair for each choice that both have: the shown one's, and the mirrored one's."""

    shown: str
    mirrored: str  # response ids
    prompt: tuple[Message, ...]
    texts: tuple[tuple[str, str], ...]

    def conversations(self) -> Iterator[dict[str, Any]]:
        """Two for each pair, as the `score` task reads them."""
        for pair in self.texts:
            for text in pair:
                yield {"prompt": list(self.prompt), "completion": text}

    def win(self, scores: Sequence[float]) -> float:
        """The share of pairs whose mirrored text has the higher score, ties half; scores as of `conversations`.

        The same text is a tie, though its two scores may differ in their last digit: they were not computed together.
        """
        pairs = zip(self.texts, scores[::2], scores[1::2], strict=True)
        gaps = [0.0 if texts[0] == texts[1] else mirrored - shown for texts, shown, mirrored in pairs]
        return math.fsum(0.5 + 0.5 * ((gap > 0) - (gap < 0)) for gap in gaps) / len(gaps)


def compare(shown: Answered, mirrored: Answered, at: datetime) -> Comparison | None:
    """None where a judge of texts can't be asked, or may not: as for datasets, consent and retention must allow it."""
    if not (_may_be_read(shown, at) and _may_be_read(mirrored, at)) or mirrored.body.request.get("tools"):
        return None
    try:
        prompt = tuple(conversation.clean(message) for message in mirrored.body.request.get("messages") or ())
        ours, theirs = _texts(mirrored.body), _texts(shown.body)
    except UnsupportedContent:
        return None
    texts = tuple((theirs[index], ours[index]) for index in sorted(ours.keys() & theirs.keys()))
    return Comparison(shown.body.response_id, mirrored.body.response_id, prompt, texts) if prompt and texts else None


def wins_of(comparisons: Sequence[Comparison], scores: Sequence[float]) -> dict[str, float]:
    """By mirrored answer; scores as of all their conversations, one after the other."""
    wins, at = dict[str, float](), 0
    for one in comparisons:
        size = 2 * len(one.texts)
        wins[one.mirrored], at = one.win(scores[at : at + size]), at + size
    return wins


def _may_be_read(event: Answered, at: datetime) -> bool:
    consent, body = event.envelope.consent, event.body
    kept = body.stored and (consent.retain_until is None or consent.retain_until > at)
    return kept and consent.train and body.status is InferenceStatus.COMPLETED


def _texts(body: Inference) -> Mapping[int, str]:
    """By index; of a choice that is empty or calls a tool there is none. Raises UnsupportedContent."""
    messages = {
        choice.index: conversation.clean({"role": "assistant", **(choice.message or {})}) for choice in body.choices
    }
    return {
        index: message["content"]
        for index, message in messages.items()
        if message["content"].strip() and not message.get("tool_calls")
    }
