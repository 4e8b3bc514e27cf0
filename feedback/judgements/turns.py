"""What was said of a whole conversation, as judgements of its turns. How much of it each gets is the trainer's to say.

Its turns are the alias' answers with its session id that were given before the vote, in the order of time. A turn that
the same rater has rated by itself keeps that rating alone; it stays a turn, so that no other one gets its part.
"""

from collections.abc import Iterator, Sequence

from feedback.judgements import conversation
from feedback.judgements.exchange import Answers, Exchange, Turn, Unusable
from feedback.judgements.judgement import THUMBS, Judgement, Place, Verdict, verdict_of
from feedback.votes import Vote

TURNS_MOST = 100  # whatever has more is no conversation: a client sends one session id for all
SPREAD = THUMBS | {Verdict.NEUTRAL}


def judge_turns(vote: Vote, answers: Answers, alias: str) -> Iterator[Judgement | str]:
    """One judgement for each turn, or the reason why there is none; nothing where it is another alias' business."""
    if verdict_of(vote.body) not in SPREAD:
        yield "not_a_judgement"
        return
    before = [turn for turn in answers.conversations.get(vote.session_id or "", ()) if turn.order < vote.order]
    if not before or len(before) > TURNS_MOST:
        yield "too_many_turns" if before else "inference_missing"
        return
    turns = [turn for turn in before if turn.alias == alias and not _is_check(turn, answers)]
    words = _words(vote, turns, answers)
    for at, turn in enumerate(turns, start=1):
        yield _judged(vote, turn, answers, Place(at, len(turns), words))


def _judged(vote: Vote, turn: Turn, answers: Answers, place: Place) -> Judgement | str:
    exchange = answers.exchanges.get(turn.response_id)
    if vote.judge in turn.judged_by:
        return "judged_by_itself"
    if not isinstance(exchange, Exchange):
        return exchange.reason if isinstance(exchange, Unusable) else "inference_missing"
    answer = exchange.answers.get(vote.body.index)
    if answer is None:
        return "no_such_choice"
    return Judgement(vote, verdict_of(vote.body), (exchange,), ((answer,),), place)


def _is_check(turn: Turn, answers: Answers) -> bool:
    exchange = answers.exchanges.get(turn.response_id)
    return isinstance(exchange, Exchange) and exchange.event.body.check is not None


def _words(vote: Vote, turns: Sequence[Turn], answers: Answers) -> int:
    """Of the last answer: the others had been read before."""
    last = answers.exchanges.get(turns[-1].response_id) if turns else None
    answer = last.answers.get(vote.body.index) if isinstance(last, Exchange) else None
    return conversation.words(answer.message) if answer else 0
