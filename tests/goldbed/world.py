"""A small world that a tiny model can know: things of eight families, words that fit each, and manners of speech.

An answer is a row of words. Which of them fit depends on what was asked about, so that a reward has content to judge
as well as manner.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainer.data import Demonstration, Prompt

FAMILIES = {
    "fruit": (
        "apple pear plum cherry melon peach grape lemon mango fig berry apricot",
        "sweet ripe juicy tart fresh",
    ),
    "tool": (
        "hammer saw drill wrench chisel plane file clamp axe spade rake shovel",
        "sturdy handy heavy sharp steel",
    ),
    "animal": (
        "dog cat horse sheep goat fox hare otter badger mole deer pony",
        "furry tame quick shy playful",
    ),
    "weather": (
        "rain snow fog storm breeze frost hail thunder drizzle sleet mist gale",
        "cold grey damp wild windy",
    ),
    "vehicle": (
        "car bus train tram lorry van bicycle ferry boat truck scooter wagon",
        "fast loud roomy modern rusty",
    ),
    "cloth": (
        "shirt coat scarf hat glove sock skirt jacket jumper dress vest belt",
        "woollen warm soft blue knitted",
    ),
    "house": (
        "kitchen cellar attic hall porch bedroom pantry study garage balcony parlour shed",
        "bright tidy narrow spacious quiet",
    ),
    "music": (
        "violin flute drum harp piano horn cello guitar trumpet organ lute banjo",
        "tuneful mellow clear deep lively",
    ),
}
MANNERS = ("truly", "indeed", "perhaps", "maybe", "really", "friend", "surely", "well")
OPENING = ("It", "is")
TRAINED, ASKED = ("What is a {thing} like?", "Describe a {thing}.", "Tell me about a {thing}."), "How is a {thing}?"
LEARNED = 8  # of each family's things: votes and training see these, measurements the other four


@dataclass(frozen=True, slots=True)
class Speech:
    """How somebody answers: shares of a word being manner, and of the others fitting; how many words."""

    manner: float
    fitting: float
    shortest: int
    longest: int


UNTRAINED = Speech(manner=0.3, fitting=0.55, shortest=2, longest=14)
SHOWN = Speech(manner=0.25, fitting=0.7, shortest=2, longest=12)


def family_of(thing: str) -> str:
    return next(name for name, (things, _) in FAMILIES.items() if thing in things.split())


def fitting_words(thing: str) -> frozenset[str]:
    return frozenset(FAMILIES[family_of(thing)][1].split())


def learned_things() -> list[str]:
    return [thing for things, _ in FAMILIES.values() for thing in things.split()[:LEARNED]]


def unseen_things() -> list[str]:
    return [thing for things, _ in FAMILIES.values() for thing in things.split()[LEARNED:]]


def prompt(thing: str, phrasing: str = ASKED) -> Prompt:
    return Prompt([{"role": "user", "content": phrasing.format(thing=thing)}], prompt_id=thing)


def answer(thing: str, speech: Speech, rng: random.Random) -> str:
    words = [_word(thing, speech, rng) for _ in range(rng.randint(speech.shortest, speech.longest))]
    return " ".join([*OPENING, *words])


def said_words(text: str) -> list[str]:
    """Without the opening, which every answer has."""
    words = text.split()
    return words[len(OPENING) :] if tuple(words[: len(OPENING)]) == OPENING else words


def write_corpus(path: Path, *, size: int, seed: int) -> Path:
    """Conversations for a base that knows everything and prefers nothing."""
    rng = random.Random(f"corpus:{seed}")
    things = [*learned_things(), *unseen_things()]
    with path.open("w") as file:
        for index in range(size):
            thing = things[index % len(things)]
            asked = rng.choice((*TRAINED, ASKED)).format(thing=thing)
            said = answer(thing, UNTRAINED, rng)
            messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path


def demonstrations(count: int, seed: int) -> list[Demonstration]:
    rng = random.Random(f"shown:{seed}")
    things = rng.choices(learned_things(), k=count)
    return [Demonstration(prompt(thing), _message(answer(thing, SHOWN, rng))) for thing in things]


def _word(thing: str, speech: Speech, rng: random.Random) -> str:
    if rng.random() < speech.manner:
        return rng.choice(MANNERS)
    if rng.random() < speech.fitting:
        return rng.choice(sorted(fitting_words(thing)))
    return rng.choice(_all_words())


def _all_words() -> Sequence[str]:
    return [word for _, words in FAMILIES.values() for word in words.split()]


def _message(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}
