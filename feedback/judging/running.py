"""One run of a judge over pairs: opened piece by piece, asked some at a time, each vote on the log before the next.

A run that is stopped, by whatever, has lost no vote: the next one asks only what this judge has not answered.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from feedback.datasets.facts import judgement_facts
from feedback.datasets.gathering import Progress
from feedback.judgements.exchange import Answer, Answers
from feedback.judgements.join import join
from feedback.judgements.judgement import Judgement
from feedback.judging.asking import Judge, Message, Question
from feedback.judging.candidates import Candidates, Pair
from feedback.judging.casting import Caster
from feedback.judging.endpoint import JudgeAway, JudgeRefused, Unclear
from infra.eventlog.base import LogUnavailable

PIECE = 50  # pairs whose texts are open at one time
STOPPING = (JudgeAway, JudgeRefused, LogUnavailable)


@dataclass
class Tally:
    """What came of a run. `stopped` says why it ended before its end."""

    votes: Counter[str] = field(default_factory=Counter)
    flipped: int = 0
    unclear: int = 0
    left_out: int = 0
    stopped: str = ""
    facts: list[pa.Table] = field(default_factory=list)

    @property
    def done(self) -> int:
        return self.votes.total() + self.unclear + self.left_out


@dataclass(frozen=True, slots=True)
class Opened:
    """A pair with its texts."""

    pair: Pair
    question: Question
    answers: Answers


@dataclass(frozen=True)
class Run:
    judge: Judge
    candidates: Candidates
    caster: Caster
    progress: Progress
    tally: Tally = field(default_factory=Tally)

    async def over(self, pairs: Sequence[Pair]) -> Tally:
        """Ends early where the endpoint or the log is away or refuses."""
        waiting = self._opened(pairs)
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(min(len(pairs), self.judge.endpoint.settings.judge_concurrency)):
                    workers.create_task(self._work(waiting, len(pairs)))
        except* STOPPING as group:
            self.tally.stopped = str(group.exceptions[0])
        return self.tally

    async def _work(self, waiting: Iterator[Opened], total: int) -> None:
        for opened in waiting:
            try:
                await self._settle(opened)
            except Unclear:
                self.tally.unclear += 1
            self.progress("pairs", self.tally.done, total)

    async def _settle(self, opened: Opened) -> None:
        verdict = await self.judge.ask(opened.question)
        vote = self.caster.vote(opened.pair, verdict.choice)
        await self.caster.cast(vote)
        self.tally.votes[verdict.choice] += 1
        self.tally.flipped += verdict.flipped
        judgements, _ = join([vote], opened.answers, self.candidates.alias)
        self.tally.facts.append(judgement_facts(judgements))

    def _opened(self, pairs: Sequence[Pair]) -> Iterator[Opened]:
        """Without those that may not be used any more, or never: whether they may be is the dataset's own question."""
        for at in range(0, len(pairs), PIECE):
            some = pairs[at : at + PIECE]
            drafts = {(draft := self.caster.vote(pair, "tie")).vote_id: (pair, draft) for pair in some}
            answers = self.candidates.archive.answers_to(draft for _, draft in drafts.values())
            judgements, _ = join((draft for _, draft in drafts.values()), answers, self.candidates.alias)
            usable = self.candidates.usable(judgements)
            self.tally.left_out += len(some) - len(usable)
            for judgement in usable:
                pair, _ = drafts[judgement.vote.vote_id]
                yield Opened(pair, _question(judgement), answers)


def _question(judgement: Judgement) -> Question:
    a, b = judgement.answers
    exchange = judgement.exchange
    return Question([_said(message) for message in exchange.prompt], _shown(a), _shown(b), exchange.tools)


def _shown(answer: Answer) -> Message:
    """As a person sees it, without what it thought before."""
    return {name: value for name, value in _said(answer.message).items() if name != "role"}


def _said(message: Message) -> Message:
    return {name: value for name, value in message.items() if name != "reasoning_content"}
