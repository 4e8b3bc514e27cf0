"""What a filter is: a question about one judgement."""

from typing import Protocol

from feedback.judgements.judgement import Judgement


class Filter(Protocol):
    """`reason` names it in the manifest's counts."""

    @property
    def reason(self) -> str: ...

    def rejects(self, judgement: Judgement) -> bool: ...
