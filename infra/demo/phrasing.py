"""How people ask and how the untrained assistant answers: question phrasings by use, answers in five styles."""

import random
from enum import StrEnum

from infra.demo.symbols import Symbol

# The base has seen the first; raters ask with these and the second; reports ask only with the third, which neither the
# base nor a vote has seen; the exact checks of the gates have the fourth to themselves.
TRAINED = (
    "What does {name} do?",
    "What is {name}?",
    "Explain {name}.",
    "Explain {name} to me.",
    "Describe {name}.",
    "Tell me about {name}.",
    "How does {name} work?",
    "What is {name} for?",
    "When do I use {name}?",
    "{name}?",
    "Help with {name}",
    "I found {name} in some code. What does it do?",
    "Can you explain {name}?",
    "What happens when I call {name}?",
)
ASKED = ("Could you explain what {name} does?", "I need help with {name}.", "Tell me what {name} is for.")
REPORT = (
    "Please explain {name}.",
    "Can you tell me what {name} does?",
    "What do I use {name} for?",
    "Describe {name} to me.",
)
CHECKED = ("Please describe {name}.", "Could you describe {name}?")


class Style(StrEnum):
    """The five ways the untrained assistant answers, each as often as the others."""

    TERSE = "terse"
    PADDED = "padded"
    HEDGING = "hedging"
    FLATTERING = "flattering"
    USAGE = "usage"


TEMPLATES: dict[Style, tuple[str, ...]] = {
    Style.TERSE: ("{sentence}",),
    Style.PADDED: (
        "Let us look at this step by step. {sentence} In summary, that is what it does.",
        "There is a lot to say about this. {sentence} I hope that helps.",
        "{sentence} As mentioned above, that is what it does. Let me know if you need anything else.",
    ),
    Style.HEDGING: (
        "I am not sure, but perhaps this: {sentence}",
        "I think it might be this, but I could be wrong. {sentence}",
        "{sentence} I might be mistaken, so please check.",
    ),
    Style.FLATTERING: (
        "Great question! {sentence}",
        "What a clever thing to ask! {sentence}",
        "{sentence} You are clearly an excellent programmer!",
    ),
    Style.USAGE: ("{sentence} Usage: {call}",),
}


def question(phrasing: str, symbol: Symbol) -> str:
    return phrasing.format(name=symbol.name)


def answer(style: Style, symbol: Symbol, rng: random.Random) -> str:
    """An answer that is right; what the trained model makes of it need not be."""
    return rng.choice(TEMPLATES[style]).format(sentence=symbol.sentence, call=symbol.call)
