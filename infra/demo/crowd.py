"""The raters at work: they chat through the public API and vote on what they got."""

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from infra.demo.assistant import Ask, Assistant, Reply
from infra.demo.phrasing import Style
from infra.demo.phrasing import answer as best_answer
from infra.demo.plan import Plan
from infra.demo.raters import Pair, Rater, Votes, deal, rating, vote
from infra.demo.symbols import Symbol
from infra.demo.taste import Taste

GOOD = 3.5  # a thumb goes up from here: right, and not too tiresome
SIDE_BY_SIDE = 2
MOST_QUESTIONS = 2.0  # per wanted vote; identical answers make no pair


@dataclass(frozen=True)
class Crowd:
    """Everybody who rates. The same seed asks the same questions of the same people."""

    assistant: Assistant
    taste: Taste
    raters: Sequence[Rater]
    questions: Sequence[tuple[Symbol, str]]
    plan: Plan
    seed: int
    votes: Votes = "taste"

    async def rate(self, cycle: int, progress: Callable[[int, int], None]) -> int:
        """Votes until the plan's comparisons up to this cycle are acknowledged, those on trials included; returns how
        many were."""
        wanted, tally = self.plan.pairs(cycle), self.assistant.tally
        already = tally.acknowledged["comparison"]
        before = sum(self.plan.pairs(number) for number in range(1, cycle))
        rng = random.Random(f"{self.seed}:{cycle}")
        turns = iter(deal(self.raters, int(wanted * MOST_QUESTIONS), rng))

        async def work() -> None:
            for rater in turns:
                done = tally.acknowledged["comparison"] - before
                progress(min(done, wanted), wanted)
                if done >= wanted:
                    return
                await self._turn(rater, random.Random(rng.random()), self.plan.answers_per_question)

        await asyncio.gather(*[work() for _ in range(self.plan.vote_concurrency)])
        return tally.acknowledged["comparison"] - already

    async def try_out(self, cycle: int, ended: asyncio.Event) -> None:
        """Goes on asking and voting while the cycle's version is on trial: two answers at a time, side by side."""
        rng = random.Random(f"{self.seed}:{cycle}:trial")
        rounds = (deal(self.raters, len(self.raters), rng) for _ in itertools.count())
        turns = itertools.chain.from_iterable(rounds)

        async def work() -> None:
            for rater in turns:
                if ended.is_set():
                    return
                await self._turn(rater, random.Random(rng.random()), SIDE_BY_SIDE)

        await asyncio.gather(*[work() for _ in range(self.plan.vote_concurrency)])

    async def _turn(self, rater: Rater, rng: random.Random, answers: int) -> None:
        symbol, question = rng.choice(self.questions)
        ask = Ask(
            question,
            user=rater.name,
            n=answers,
            max_tokens=self.plan.max_tokens,
            seed=rng.randrange(2**31),
            consent=True,
        )
        reply = await self.assistant.ask(ask)
        if reply is None:
            return
        other = next((index for index, text in enumerate(reply.answers) if text != reply.answers[0]), None)
        if other is not None:
            await self._compare(rater, symbol, reply, other, rng)
        await self._single_feedback(rater, symbol, reply, rng)

    async def _compare(self, rater: Rater, symbol: Symbol, reply: Reply, other: int, rng: random.Random) -> None:
        cast = vote(rater, self._pair(symbol, reply, other), rng, tie_below=self.taste.weights.tie, votes=self.votes)
        body = {
            "a": {"response_id": reply.response_id, "index": 0},
            "b": {"response_id": reply.response_id, "index": other},
            "rater": rater.name,
            "choice": cast.choice,
            "shown_first": cast.shown_first,
            "latency_ms": round(cast.latency_ms, 1),
            "consent_train": True,
        }
        await self.assistant.vote("/comparisons", "comparison", body)

    async def _single_feedback(self, rater: Rater, symbol: Symbol, reply: Reply, rng: random.Random) -> None:
        """Now and then a thumb, stars, or the answer as it should have been, for the first answer."""
        score = self.taste.score(symbol, reply.answers[0])
        if self.votes == "coin":
            score = rng.uniform(0, 5)
        if rng.random() < self.plan.thumbs_share:
            await self._feedback(rater, reply, "thumbs", score >= GOOD)
        if rng.random() < self.plan.rating_share:
            await self._feedback(rater, reply, "rating", rating(score))
        if rng.random() < self.plan.correction_share and score < GOOD and self.votes == "taste":
            await self._feedback(rater, reply, "correction", best_answer(Style.USAGE, symbol, rng))

    async def _feedback(self, rater: Rater, reply: Reply, name: str, value: bool | int | str) -> None:
        body: dict[str, Any] = {"response_id": reply.response_id, "index": 0, "rater": rater.name, "name": name}
        await self.assistant.vote("/feedback", name, {**body, "value": value, "consent_train": True})

    def _pair(self, symbol: Symbol, reply: Reply, other: int) -> Pair:
        a, b = reply.answers[0], reply.answers[other]
        read_a, read_b = self.taste.read(symbol, a), self.taste.read(symbol, b)
        return Pair(
            score_a=self.taste.score(symbol, a),
            score_b=self.taste.score(symbol, b),
            right_a=read_a.right,
            right_b=read_b.right,
            words=read_a.words + read_b.words,
        )
