"""Who is counted as one: what the gateway's assignment sticks to."""

from dataclasses import dataclass
from typing import Literal, Self

Kind = Literal["rater", "session_id", "response_id"]
KINDS: tuple[Kind, ...] = ("rater", "session_id", "response_id")


@dataclass(frozen=True, slots=True, order=True)
class Unit:
    """The rater of an answer, else its session, else the answer alone."""

    kind: Kind
    name: str

    @classmethod
    def of(cls, rater: str | None, session_id: str | None, response_id: str) -> Self:
        if rater:
            return cls("rater", rater)
        return cls("session_id", session_id) if session_id else cls("response_id", response_id)

    @property
    def rater(self) -> str | None:
        return self.name if self.kind == "rater" else None
