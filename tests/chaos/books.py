"""The clients' own books of a chaos run: what they asked and cast, what was acknowledged, and when.

Times are seconds of one monotonic clock. Lists only grow, so that others may read them meanwhile.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

Value = bool | None  # of a thumb; None takes it back
VoteKey = tuple[str, str]  # rater, response id


@dataclass(frozen=True, slots=True)
class Chat:
    """One request. `response_id` is empty where no whole answer came, and `problem` says what came instead."""

    began: float
    ended: float
    response_id: str
    problem: str = ""

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True, slots=True)
class Cast:
    """One vote as it was acknowledged. `place` is where it was durable by then: the log or a spool."""

    rater: str
    response_id: str
    value: Value
    feedback_id: str
    place: str
    began: float

    @property
    def key(self) -> VoteKey:
        return self.rater, self.response_id


@dataclass
class Books:
    """`casts` are in the order of their acknowledgements; `refused` are the times at which a vote was answered 503."""

    chats: list[Chat] = field(default_factory=list)
    casts: list[Cast] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    @property
    def answered(self) -> list[str]:
        """The responses that arrived whole, in their order."""
        return [chat.response_id for chat in list(self.chats) if chat.response_id]

    @property
    def failed(self) -> list[Chat]:
        return [chat for chat in list(self.chats) if not chat.response_id]

    def latest(self) -> dict[VoteKey, Cast]:
        """Of each vote the value that was acknowledged last: nobody sends the next one before."""
        return {cast.key: cast for cast in list(self.casts)}

    def cast_since(self, began: float) -> Cast | None:
        """A vote that was cast after that time and found the log in its place."""
        return next((c for c in reversed(list(self.casts)) if c.began >= began and c.place == "log"), None)

    def answered_since(self, began: float) -> bool:
        return any(chat.response_id for chat in reversed(list(self.chats)) if chat.began >= began)


@dataclass(slots=True)
class Window:
    """From a fault until all was well again; `ended` is infinite until then."""

    target: str
    began: float
    ended: float = float("inf")

    def holds(self, chat: Chat) -> bool:
        return chat.began < self.ended and chat.ended > self.began


def struck(chat: Chat, windows: Sequence[Window]) -> set[str]:
    """Whose faults that request met."""
    return {window.target for window in windows if window.holds(chat)}
