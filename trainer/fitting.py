"""Which rows of a file can be trained on at all, and what is said of the others: their number, by reason."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from trainer.batches import encode
from trainer.data import Demonstration, Message, Preference, Tie, Unpaired
from trainer.model import Base

Row = TypeVar("Row", Demonstration, Preference, Tie, Unpaired)


@dataclass(frozen=True, slots=True)
class Fitted(Generic[Row]):
    """`tokens`: of the kept rows once through, each answer with its prompt. `given` are all that there were."""

    given: list[Row]
    rows: list[Row]
    tokens: int
    left_out: Counter[str] = field(default_factory=Counter)


def fit(base: Base, rows: Iterable[Row], answers: Callable[[Row], Sequence[Message]], longest: int) -> Fitted[Row]:
    """Leaves out what weighs nothing, and what has more than `longest` tokens: it would be cut, and its end matters."""
    given, kept = list(rows), list[Row]()
    tokens, left_out = 0, Counter[str]()
    for row in given:
        lengths = [len(encode(base, row.prompt, answer)) for answer in answers(row)]
        if row.weight <= 0:
            left_out["weightless"] += 1
        elif max(lengths) > longest:
            left_out["too_long"] += 1
        else:
            kept.append(row)
            tokens += sum(lengths)
    return Fitted(given, kept, tokens, left_out)


@dataclass(frozen=True, slots=True)
class Used:
    """What a training went through: rows, their tokens in all its passes, and what it left out."""

    rows: int
    tokens: int
    left_out: Counter[str]


def used(passes: int, *parts: Fitted[Any]) -> Used:
    left_out = sum((part.left_out for part in parts), Counter[str]())
    return Used(sum(len(part.rows) for part in parts), passes * sum(part.tokens for part in parts), left_out)
