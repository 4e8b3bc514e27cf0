"""Which pairs a judge is asked: those that people compared, to be told by, and others of one prompt."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import combinations

import pyarrow as pa

from feedback.datasets.archive import Archive
from feedback.datasets.facts import judgement_facts
from feedback.datasets.split import PROMPT_SALT, fraction
from feedback.filters import chain
from feedback.judgements.exchange import Answer, Exchange
from feedback.judgements.join import join
from feedback.judgements.judgement import COMPARISONS, Judgement
from feedback.tables import InferenceRow, VoteEventRow
from infra.contracts.events import Item
from infra.settings import FeedbackSettings

ANSWERS_EACH, PAIRS_EACH = 6, 3  # of one prompt, however often it was asked

Question = tuple[str, frozenset[str]]  # a prompt and the texts of two answers, by their hashes


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt."""

    question: Question
    a: Item
    b: Item


@dataclass
class Judged:
    """What has been judged so far: by whomever, as facts; by people, as pairs; by this judge, as questions."""

    facts: list[pa.Table] = field(default_factory=list)
    by_people: dict[Question, Pair] = field(default_factory=dict)
    by_judge: set[Question] = field(default_factory=set)


@dataclass(frozen=True)
class Candidates:
    """Of one alias, as of a moment. `rater` is the judge's. Only what may be trained on is looked at."""

    archive: Archive
    settings: FeedbackSettings
    alias: str
    as_of: datetime
    rater: str

    def judged(self) -> Judged:
        found = Judged()
        for cell in self.archive.cells(VoteEventRow):
            for votes, _ in self.archive.votes(cell):
                judgements, _ = join(votes, self.archive.answers_to(votes), self.alias)
                kept = self.usable(judgements)
                found.facts += [judgement_facts(kept)] if kept else []
                for judgement in kept:
                    self._note(judgement, found)
        return found

    def usable(self, judgements: list[Judgement]) -> list[Judgement]:
        """Those that would not be left out of a dataset, whatever they say."""
        return chain.apply(chain.make_chain(self.settings, self.as_of), judgements)[0]

    def pairs(self, judged: Judged, *, shared: int, most: int) -> list[Pair]:
        """At most `shared` that people compared, then others, `most` in all; the same ones for the same events."""
        new = [pair for key, pair in judged.by_people.items() if key not in judged.by_judge]
        chosen = sorted(new, key=_place)[: min(shared, most)]
        if len(chosen) < most:
            known = judged.by_judge | judged.by_people.keys()
            chosen += self._unjudged(known)[: most - len(chosen)]
        return chosen

    def _note(self, judgement: Judgement, found: Judged) -> None:
        if judgement.vote.is_ai:
            if judgement.vote.rater == self.rater:
                found.by_judge.update(_pairs(judgement.prompt_id, judgement.answers))
        elif judgement.verdict in COMPARISONS:
            for question, pair in _pairs(judgement.prompt_id, judgement.answers).items():
                found.by_people.setdefault(question, pair)

    def _unjudged(self, known: Collection[Question]) -> list[Pair]:
        by_prompt: dict[str, dict[str, Answer]] = defaultdict(dict)
        for exchange in self._asked():
            answers = by_prompt[exchange.prompt_id]
            for answer in exchange.answers.values():
                if len(answers) < ANSWERS_EACH:
                    answers.setdefault(answer.digest, answer)
        found = (_pairs(prompt_id, by_prompt[prompt_id].values()) for prompt_id in sorted(by_prompt))
        fresh = ([pair for question, pair in pairs.items() if question not in known] for pairs in found)
        return [pair for pairs in fresh for pair in pairs[:PAIRS_EACH]]

    def _asked(self) -> Iterator[Exchange]:
        """What training may use: no held-out prompt, and none whose owner did not allow it."""
        held_out = self.settings.report_share + self.settings.gate_share
        for cell in self.archive.cells(InferenceRow):
            for exchanges in self.archive.answers(cell):
                for one in exchanges:
                    mine = one.event.body.alias == self.alias and one.event.body.check is None and one.owner.train
                    if mine and one.prompt and fraction(PROMPT_SALT, one.prompt_id) >= held_out:
                        yield one


def _pairs(prompt_id: str, answers: Iterable[Answer]) -> Mapping[Question, Pair]:
    """Every two that differ, in the order of their handles."""
    ordered = sorted(answers, key=lambda answer: answer.ref)
    return {
        (question := (prompt_id, frozenset({a.digest, b.digest}))): Pair(question, _item(a), _item(b))
        for a, b in combinations(ordered, 2)
        if a.digest != b.digest
    }


def _item(answer: Answer) -> Item:
    response_id, _, index = answer.ref.rpartition("#")
    return Item(response_id=response_id, index=int(index))


def _place(pair: Pair) -> tuple[str, list[str]]:
    prompt_id, digests = pair.question
    return prompt_id, sorted(digests)
