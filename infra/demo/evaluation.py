"""The demo's own verdict: the hidden taste compares versions on questions that nobody voted on."""

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from infra.demo.assistant import Ask, Assistant
from infra.demo.intervals import Estimate, by_subject
from infra.demo.phrasing import REPORT, question
from infra.demo.plan import Plan
from infra.demo.symbols import Symbol
from infra.demo.taste import Taste, style_shares

TEMPERATURE = 0.7
Answers = Mapping[str, Sequence[str]]  # question -> answers


@dataclass(frozen=True)
class Examination:
    """Fixed questions in words that neither the base's text nor any vote contained; one per subject where it can."""

    assistant: Assistant  # must hold a key that may ask for any version
    taste: Taste
    questions: Mapping[str, Symbol]  # question -> its subject
    plan: Plan

    async def sit(self, version: str, *, greedy: bool = False, progress: Callable[[int, int], None]) -> Answers:
        """Asks every question of one version. Greedy decoding gives one answer each."""
        slots = asyncio.Semaphore(self.plan.report_concurrency)
        answers: dict[str, Sequence[str]] = {}

        async def one(index: int, text: str) -> None:
            async with slots:
                reply = await self.assistant.ask(self._ask(text, version, index, greedy))
            answers[text] = reply.answers if reply else []
            progress(len(answers), len(self.questions))

        await asyncio.gather(*[one(index, text) for index, text in enumerate(self.questions)])
        return {text: answers[text] for text in self.questions}

    def win_rate(self, candidate: Answers, other: Answers) -> Estimate:
        """How often the candidate's i-th answer is liked better than the other's i-th; ties count half."""
        return self._estimate(
            {
                text: [
                    self.taste.prefers(symbol, mine, theirs)
                    for mine, theirs in _paired(candidate.get(text, ()), other.get(text, ()))
                ]
                for text, symbol in self.questions.items()
            }
        )

    def correct_rate(self, answers: Answers) -> Estimate:
        return self._estimate({text: self._right(text, given) for text, given in answers.items()})

    def correct_difference(self, candidate: Answers, other: Answers) -> Estimate:
        """Candidate's minus other's share of right answers, paired by question."""
        differences = {
            text: [
                mine - theirs
                for mine, theirs in zip(self._right(text, given), self._right(text, other[text]), strict=False)
            ]
            for text, given in candidate.items()
        }
        return self._estimate(differences)

    def styles(self, answers: Answers) -> dict[str, float]:
        return style_shares(
            [self.taste.read(self.questions[text], each) for text, given in answers.items() for each in given]
        )

    def mean_length(self, answers: Answers) -> float:
        """Words per answer: the demo sees texts, never tokens."""
        lengths = [len(each.split()) for given in answers.values() for each in given]
        return sum(lengths) / len(lengths)

    def _right(self, text: str, given: Sequence[str]) -> list[float]:
        return [float(self.taste.read(self.questions[text], each).right) for each in given]

    def _estimate(self, values: Mapping[str, Sequence[float]]) -> Estimate:
        subjects: dict[str, list[float]] = {}
        for text, each in values.items():
            subjects.setdefault(self.questions[text].name, []).extend(each)
        return by_subject(subjects, bootstraps=self.plan.bootstraps)

    def _ask(self, text: str, version: str, index: int, greedy: bool) -> Ask:
        return Ask(
            text,
            user="examiner",
            model=version,
            n=1 if greedy else self.plan.report_answers,
            temperature=0.0 if greedy else TEMPERATURE,
            max_tokens=self.plan.max_tokens,
            seed=index,
        )


def report_questions(symbols: Sequence[Symbol], count: int, seed: int) -> dict[str, Symbol]:
    """Every subject once before any comes twice."""
    rng = random.Random(f"report:{seed}")
    phrasings = rng.sample(REPORT, len(REPORT))
    asked = [
        (question(phrasing, symbol), symbol)
        for phrasing in phrasings
        for symbol in rng.sample(list(symbols), len(symbols))
    ]
    return dict(asked[:count])


def _paired(mine: Sequence[str], theirs: Sequence[str]) -> list[tuple[str, str]]:
    """The i-th with the i-th; a single (greedy) answer meets each of the other's."""
    size = max(len(mine), len(theirs)) if mine and theirs else 0
    return [(mine[index % len(mine)], theirs[index % len(theirs)]) for index in range(size)]
