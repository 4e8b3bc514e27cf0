"""Judgements as the reward model's loss sees them: each answer once, and all pairs that were made of them.

A ranking of K answers is K(K-1)/2 rows of the dataset. As elements of their own they would run each answer K-1 times
an epoch, and a model that sees an answer so often overfits in one pass (Ouyang et al. 2022, arXiv 2203.02155, 3.5).
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from trainer.batches import encode
from trainer.data import Message, Preference, Tie
from trainer.lines import Encoded
from trainer.model import Base
from trainer.rewards.style import style_difference, style_of

Row = Preference | Tie
Sides = tuple[Encoded, Encoded]


@dataclass(frozen=True, slots=True)
class Pair:
    """`first` and `second` are places among an element's answers; the first won unless it is a tie."""

    first: int
    second: int
    tie: bool = False
    weight: float = 1.0
    margin: float = 0.0
    style: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Element:
    """One judgement. `unit` is whose it is, or of nobody named the judgement itself: what a bootstrap draws."""

    answers: tuple[Encoded, ...]
    pairs: tuple[Pair, ...]
    unit: str = ""

    @property
    def length(self) -> int:
        return max(map(len, self.answers))

    def times(self, factor: float) -> "Element":
        """The same, weighing `factor` times as much."""
        return replace(self, pairs=tuple(replace(pair, weight=factor * pair.weight) for pair in self.pairs))


@dataclass(frozen=True, slots=True)
class Collated:
    """A step's elements. A: answers, element by element. P: pairs; S: style covariates, none where not asked for."""

    rows: Sequence[Encoded]
    first_P: Tensor
    second_P: Tensor
    tied_P: Tensor
    weights_P: Tensor
    asked_P: Tensor
    style_PS: Tensor

    def sides(self, scores_A: Tensor) -> tuple[Tensor, Tensor]:
        """[P] each: the first answers' and the second answers'."""
        return scores_A[self.first_P], scores_A[self.second_P]


def collate(elements: Sequence[Element], device: torch.device) -> Collated:
    starts, rows = [], list[Encoded]()
    for element in elements:
        starts += [len(rows)] * len(element.pairs)
        rows += element.answers
    pairs = [pair for element in elements for pair in element.pairs]
    starts_P = torch.tensor(starts)
    first_P, second_P = (torch.tensor(places) for places in zip(*((p.first, p.second) for p in pairs), strict=True))
    tied_P, weights_P, asked_P, style_PS = (
        torch.tensor([getattr(pair, name) for pair in pairs]) for name in ("tie", "weight", "margin", "style")
    )
    moved = (starts_P + first_P, starts_P + second_P, tied_P, weights_P, asked_P, style_PS)
    return Collated(rows, *(tensor.to(device) for tensor in moved))


def elements(
    base: Base, rows: Iterable[Row], *, longest: int, margin_scale: float = 1.0, style: bool = False
) -> list[Element]:
    """In the order in which each judgement's first row comes.

    A pair that weighs nothing, or whose longer answer is longer than `longest` with its prompt, is left out rather than
    cut, since an answer's end matters most.
    """
    groups: dict[str, list[Row]] = {}
    for place, row in enumerate(rows):
        judgement = f"{row.event} {row.rater} {row.prompt.prompt_id}" if row.event else f"#{place}"
        groups.setdefault(judgement, []).append(row)
    found = []
    for judgement, group in groups.items():
        encoder = _Encoder(base)
        sides = [(row, encoder.sides(row)) for row in group if row.weight > 0]
        kept = [(row, both) for row, both in sides if max(map(len, both)) <= longest]
        pairs = [_pair(row, both, margin_scale, style=style) for row, both in kept]
        if pairs:
            found.append(_element(pairs, [both for _, both in kept], group[0].rater or judgement))
    return found


def messages(row: Row) -> tuple[Message, Message]:
    """Both answers, the better one first."""
    return (row.chosen, row.rejected) if isinstance(row, Preference) else (row.completion_a, row.completion_b)


@dataclass(frozen=True, slots=True)
class _Encoder:
    """A ranking's answers come in several rows; each is encoded once."""

    base: Base
    known: dict[str, Encoded] = field(default_factory=dict)

    def sides(self, row: Row) -> Sides:
        first, second = (self._encoded(row, message) for message in messages(row))
        return first, second

    def _encoded(self, row: Row, message: Message) -> Encoded:
        key = json.dumps([list(row.prompt.messages), row.prompt.tools, message], sort_keys=True, default=str)
        if key not in self.known:
            self.known[key] = encode(self.base, row.prompt, message)
        return self.known[key]


def _pair(row: Row, sides: Sides, margin_scale: float, *, style: bool) -> Pair:
    """Without places yet."""
    tie = isinstance(row, Tie)
    margin = 0.0 if isinstance(row, Tie) else margin_scale * row.margin
    first, second = (style_of(m, len(side.answer)) for m, side in zip(messages(row), sides, strict=True))
    return Pair(0, 0, tie, row.weight, margin, style_difference(first, second) if style else ())


def _element(pairs: Sequence[Pair], sides: Sequence[Sides], unit: str) -> Element:
    places: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}
    answers = list[Encoded]()

    def place(answer: Encoded) -> int:
        key = (tuple(answer.prompt), tuple(answer.answer))
        if key not in places:
            places[key] = len(answers)
            answers.append(answer)
        return places[key]

    placed = [replace(pair, first=place(a), second=place(b)) for pair, (a, b) in zip(pairs, sides, strict=True)]
    return Element(tuple(answers), tuple(placed), unit)
