"""What a filter is: either a question about one judgement, or about all of them together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from feedback.judgement import Judgement


class Filter(Protocol):
    """`reason` names it in the manifest's counts."""

    @property
    def reason(self) -> str: ...

    def rejected(self, judgements: Sequence[Judgement]) -> set[str]:
        """The event ids of those to leave out; the same ones in whatever order the judgements come."""
        ...


class One(Protocol):
    """A filter that needs to see no other judgement."""

    @property
    def reason(self) -> str: ...

    def rejects(self, judgement: Judgement) -> bool: ...


@dataclass(frozen=True, slots=True)
class Each:
    """Asks `one` about each judgement."""

    one: One

    @property
    def reason(self) -> str:
        return self.one.reason

    def rejected(self, judgements: Sequence[Judgement]) -> set[str]:
        return {judgement.event_id for judgement in judgements if self.one.rejects(judgement)}
