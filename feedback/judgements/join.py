"""Answers and votes, in whatever order they came, into judgements. What cannot be joined is counted by reason."""

from collections import Counter
from collections.abc import Iterable, Iterator

from feedback.judgements.exchange import Answer, Answers, Exchange, Unusable
from feedback.judgements.judgement import Judgement, Verdict, verdict_of
from feedback.judgements.turns import judge_turns
from feedback.votes import Vote, current
from infra.contracts.events import Item


def join(votes: Iterable[Vote], answers: Answers, alias: str) -> tuple[list[Judgement], Counter[str]]:
    """The current votes on this alias' answers, in the order of their events."""
    judgements: list[Judgement] = []
    lost: Counter[str] = Counter()
    for vote in current(votes):
        for joined in _joined(vote, answers, alias):
            if isinstance(joined, Judgement):
                judgements.append(joined)
            else:
                lost[joined] += 1
    return judgements, lost


def _joined(vote: Vote, answers: Answers, alias: str) -> Iterator[Judgement | str]:
    """Judgements, or why there are none; nothing where it is another alias' business."""
    if vote.retracted:
        yield "retracted"
    elif vote.session_id:
        yield from judge_turns(vote, answers, alias)
    elif joined := _join(vote, answers, alias):
        yield joined


def _join(vote: Vote, answers: Answers, alias: str) -> Judgement | str | None:
    items = vote.body.items or _single(vote)
    found = [answers.exchanges.get(item.response_id) for item in items]
    if any(isinstance(one, Exchange) and one.event.body.alias != alias for one in found):
        return None
    if not items or (verdict := verdict_of(vote.body)) is Verdict.NONE:
        return "not_a_judgement"
    usable = [one for one in found if isinstance(one, Exchange)]
    if len(usable) < len(items):
        return next((one.reason for one in found if isinstance(one, Unusable)), "inference_missing")
    chosen = [exchange.answers.get(item.index) for exchange, item in zip(usable, items, strict=True)]
    known = [answer for answer in chosen if answer is not None]
    if len(known) < len(items):
        return "no_such_choice"
    return Judgement(vote, verdict, tuple(usable), _groups(vote, verdict, known))


def _single(vote: Vote) -> list[Item]:
    body = vote.body
    return [Item(response_id=body.response_id, index=body.index)] if body.response_id else []


def _groups(vote: Vote, verdict: Verdict, answers: list[Answer]) -> tuple[tuple[Answer, ...], ...]:
    """Best first, ties together; a comparison's groups are stored as it was shown, whatever was chosen."""
    if verdict is not Verdict.ORDERED:
        return (tuple(answers),)
    if vote.body.kind == "comparison":
        return tuple((answer,) for answer in (answers if vote.body.value == "a" else answers[::-1]))
    left = iter(answers)
    return tuple(tuple(next(left) for _ in group) for group in vote.body.groups)
