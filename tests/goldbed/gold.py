"""What people want on average, known exactly, and raters who each want a little something else besides."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.goldbed.world import MANNERS, fitting_words, said_words

FITTING, WRONG, MANNER, REPEATED = 1.0, -0.3, -0.4, -0.4  # points a word
NOTHING_SAID = -1.5  # an answer without a single fitting word
SATURATION = 0.8  # each further fitting word is worth so much of the one before
FREE_WORDS, TOO_LONG = 8, -0.03  # times the square of the words beyond
DECISIVE = 2.0  # log-odds of a rater's choice per point
QUIRK = 1.6  # standard deviation of a rater's own points a word of manner


def gold(thing: str, text: str) -> float:
    """Fitting words count once and for less and less; wrong ones, manners, repetition, length and silence cost."""
    words = said_words(text)
    fitting = fitting_words(thing)
    found = len(fitting.intersection(words))
    manners = sum(word in MANNERS for word in words)
    contents = [word for word in words if word not in MANNERS]
    repeated = len(contents) - len(set(contents))
    wrong = len({word for word in contents if word not in fitting})
    return (
        FITTING * (1 - SATURATION**found) / (1 - SATURATION)
        + (0 if found else NOTHING_SAID)
        + WRONG * wrong
        + MANNER * manners
        + REPEATED * repeated
        + TOO_LONG * max(0, len(words) - FREE_WORDS) ** 2
    )


@dataclass(frozen=True, slots=True)
class Rater:
    """Wants what everybody wants, and likes or dislikes each word of manner in a way of their own."""

    name: str
    quirks: dict[str, float]
    careless: float  # share of coin flips

    def score(self, thing: str, text: str) -> float:
        return gold(thing, text) + sum(self.quirks.get(word, 0.0) for word in text.split())

    def prefers(self, thing: str, first: str, second: str, rng: random.Random) -> bool:
        """A draw of Bradley and Terry's from the difference of scores."""
        return self._draw(self.score(thing, first) - self.score(thing, second), rng)

    def likes(self, thing: str, text: str, level: float, rng: random.Random) -> bool:
        return self._draw(self.score(thing, text) - level, rng)

    def _draw(self, margin: float, rng: random.Random) -> bool:
        if rng.random() < self.careless:
            return rng.random() < 0.5
        return rng.random() < 1 / (1 + math.exp(-DECISIVE * margin))


def recruit(count: int, seed: int, *, careless: float = 0.1) -> list[Rater]:
    """Over many raters the quirks of each word average to nothing: gold is the population's mean taste."""
    rng = random.Random(f"raters:{seed}")
    return [
        Rater(f"rater-{index}", {word: rng.gauss(0, QUIRK) for word in MANNERS}, careless) for index in range(count)
    ]


def golds(things: Sequence[str], texts: Sequence[Sequence[str]]) -> list[list[float]]:
    return [[gold(thing, text) for text in group] for thing, group in zip(things, texts, strict=True)]
