"""Chats of several turns under one session id, as a client sends them: each time with all that was said before."""

from typing import Any

from infra.contracts.events import Feedback, Inference
from tests.support.events import make_feedback, make_inference, moment
from tests.support.feedback import Event

TURN_S = 60.0


def make_turn(session: str, turn: int, **overrides: Any) -> Inference:
    """Turn 1 is the first; its response is named after session and turn."""
    said: list[dict[str, str]] = []
    for at in range(1, turn):
        said += [
            {"role": "user", "content": f"{session} asks {at}?"},
            {"role": "assistant", "content": told(session, at)},
        ]
    messages = [*said, {"role": "user", "content": f"{session} asks {turn}?"}]
    fields = {"request": {"messages": messages}, "turn": turn, "texts": [told(session, turn)], **overrides}
    return make_inference(response(session, turn), **fields)


def told(session: str, turn: int) -> str:
    return f"{session} is told {turn}."


def response(session: str, turn: int) -> str:
    return f"{session}-{turn}"


def turns(session: str = "s1", count: int = 3, *, rater: str | None = "rater-1", start_s: float = 0) -> list[Event]:
    """A minute apart."""
    return [
        Event(
            make_turn(session, turn),
            f"inference {session} {turn}",
            {"rater": rater, "session_id": session, "occurred_at": moment(start_s + TURN_S * turn)},
        )
        for turn in range(1, count + 1)
    ]


def about(session: str = "s1", **overrides: Any) -> Feedback:
    """A thumb up for the whole."""
    return make_feedback(None, session_id=session, **overrides)


def verdict(
    session: str = "s1", value: bool | None = True, *, rater: str | None = "rater-1", at_s: float = 3600, name: str = ""
) -> Event:
    """What is said of a whole conversation, an hour after it unless told otherwise."""
    header = {"rater": rater, "session_id": session, "occurred_at": moment(at_s)}
    return Event(about(session, value=value), name or f"verdict {session} {rater} {at_s}", header)


def thumb(
    session: str, turn: int, value: bool | None = True, *, rater: str | None = "rater-1", at_s: float = 1800
) -> Event:
    """What is said of one of its answers."""
    header = {"rater": rater, "occurred_at": moment(at_s)}
    return Event(make_feedback(response(session, turn), value=value), f"thumb {session} {turn} {rater} {at_s}", header)
