"""A day on which one person and others chat, vote on their own answers and on each other's."""

from datetime import datetime, timedelta
from typing import Any

from infra.clock import now
from tests.support.events import make_comparison, make_feedback, make_inference
from tests.support.feedback import Event

MIA = "rater-mia"
HERS = ("Mia asks about lantern", "Mia is told of harbour", "Mia writes pomegranate", "Mia comments on thistle")


def yesterday(seconds: float = 0) -> datetime:
    return now() - timedelta(days=1) + timedelta(seconds=seconds)


def mias_day(*, turns: int = 2) -> list[Event]:
    """Her chats, her votes on them, and what another one thinks of her answers."""
    asked, told, corrected, said = HERS
    events = list[Event]()
    for at in range(turns):
        header: dict[str, Any] = {"rater": MIA, "occurred_at": yesterday(60 * at)}
        a, b = f"mia{at}a", f"mia{at}b"
        for response in (a, b):
            chat = make_inference(response, prompt=f"{asked} {at}?", texts=[f"{told} {response}."])
            events.append(Event(chat, f"chat {response}", header))
        later = {**header, "occurred_at": yesterday(60 * at + 10)}
        fix = make_feedback(b, kind="correction", name="correction", value=f"{corrected} {at}.")
        events += [
            Event(make_comparison(a, b, "a", comment=f"{said}."), f"her choice {at}", later),
            Event(fix, f"her correction {at}", later),
            Event(make_comparison(a, b, "b"), f"another's choice {at}", {**later, "rater": "rater-ann"}),
        ]
    return events


def others_day(*, chats: int = 6) -> list[Event]:
    events = list[Event]()
    for at in range(chats):
        header: dict[str, Any] = {"rater": f"rater-{at % 3}", "occurred_at": yesterday(60 * at + 5)}
        a, b = f"other{at}a", f"other{at}b"
        for response in (a, b):
            chat = make_inference(response, prompt=f"Question {at}?", texts=[f"Answer {response}."])
            events.append(Event(chat, f"chat {response}", header))
        events.append(Event(make_comparison(a, b), f"choice {at}", {**header, "occurred_at": yesterday(60 * at + 15)}))
    return events
