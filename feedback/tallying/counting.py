"""From the answers of a rollout and the current votes on them to tallies: pure functions, in any order."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from feedback.judgements.judgement import Verdict, verdict_of
from feedback.tallying.answers import CHALLENGER, PAIR, Answer
from feedback.tallying.trials import Trial
from feedback.tallying.trust import Trust
from feedback.votes import Vote
from infra.contracts.events import Source
from infra.registry.tallies import Tally, TallyArm

DIGITS = 12  # 1 - 0.9 is the share 0.1
Wins = Mapping[str, float | None]  # by mirrored answer, what the judge says of it; None where it can't be asked
THUMBS = {Verdict.GOOD: True, Verdict.BAD: False}


def count(trial: Trial, answers: Iterable[Answer], votes: Iterable[Vote], wins: Wins, trust: Trust) -> list[Tally]:
    """One tally for each unit, step and arm; a step that the rollout does not have counts for nothing."""
    cast, groups = _by_target(votes), defaultdict[tuple[object, ...], list[Answer]](list)
    for answer in answers:
        if 0 <= answer.step < len(trial.steps):
            groups[answer.unit, answer.step, answer.arm].append(answer)
    return [_tally(trial, sorted(group, key=lambda one: one.order), cast, wins, trust) for group in groups.values()]


def thumb(vote: Vote, answer: Answer) -> bool | None:
    """Whether a person says that it is good; None where the vote says nothing of this answer by itself."""
    alone = vote.body.kind in ("thumbs", "rating") and vote.body.index in answer.arms
    if not alone or answer.arm not in PAIR:
        return None
    return THUMBS.get(verdict_of(vote.body))


def win(vote: Vote, answer: Answer) -> float | None:
    """1 where the challenger's side of a pair was chosen, 0 the champion's, half for neither.

    None where it is no choice between the two.
    """
    sides = [answer.arms.get(item.index) for item in vote.body.items if item.response_id == answer.response_id]
    if answer.arm is not TallyArm.PAIR or vote.body.kind != "comparison" or len(sides) != 2 or set(sides) != PAIR:
        return None
    verdict = verdict_of(vote.body)
    if verdict is Verdict.ORDERED:
        return float(sides[0 if vote.body.value == "a" else 1] == CHALLENGER)
    return None if verdict is Verdict.NONE else 0.5


def _by_target(votes: Iterable[Vote]) -> Mapping[str, Sequence[Vote]]:
    """What people say and have not taken back, by the answer that it is about."""
    found = defaultdict[str, list[Vote]](list)
    for vote in votes:
        if vote.envelope.source is Source.HUMAN and not vote.retracted:
            for target in vote.targets:
                found[target].append(vote)
    return found


def _tally(
    trial: Trial, answers: Sequence[Answer], cast: Mapping[str, Sequence[Vote]], wins: Wins, trust: Trust
) -> Tally:
    """Of one unit under one arm in one step; answers in their order."""
    first = answers[0]
    votes = [(vote, answer) for answer in answers for vote in cast.get(answer.response_id, ())]
    thumbs = [(vote, up) for vote, answer in votes if (up := thumb(vote, answer)) is not None]
    choices = [(vote, won) for vote, answer in votes if (won := win(vote, answer)) is not None]
    said = [wins[answer.response_id] for answer in answers if answer.response_id in wins]
    judged = [won for won in said if won is not None]
    return Tally(
        rollout_id=trial.rollout_id,
        step=first.step,
        arm=first.arm,
        unit=first.unit.name,
        share=_share(trial, first),
        first_at=first.occurred_at,
        segment=first.segment,
        weight=trust.weight(first.unit.rater, first.segment),
        answers=len(answers),
        failed=sum(answer.failed for answer in answers),
        rateable=sum(answer.rateable for answer in answers),
        tokens=sum(answer.tokens for answer in answers),
        seconds=sum(answer.seconds for answer in answers),
        refusals=sum(answer.refuses for answer in answers),
        votes=len(thumbs),
        ups=sum(up for _, up in thumbs),
        choices=len(choices),
        wins=sum(won for _, won in choices),
        judgeable=sum(answer.judgeable for answer in answers) - (len(said) - len(judged)),
        judged=len(judged),
        judge_wins=sum(judged),
        voted_at=min((vote.envelope.occurred_at for vote, _ in (*thumbs, *choices)), default=None),
    )


def _share(trial: Trial, answer: Answer) -> float:
    """The challenger's. Pairs and mirrored requests are drawn apart from it: there the step says it."""
    if answer.arm not in PAIR:
        return trial.steps[answer.step].share
    return answer.propensity if answer.arm == CHALLENGER else round(1 - answer.propensity, DIGITS)
