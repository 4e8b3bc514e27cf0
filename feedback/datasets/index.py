"""What the next dataset need not open again: the facts of each cell, and which rows each cell's files hold.

It lies beside the dataset as `index/`: one Parquet file of facts per cell, and `cells.json`. Its hash is not part of
the dataset's: the rows are what they are, however they were found.
"""

from collections import Counter
from datetime import datetime

from pydantic import AwareDatetime

from feedback.cells import PROMPTS, VOTES, Cell
from infra.contracts.base import Contract
from infra.contracts.manifests import FileEntry, Voting

DIRECTORY = "index"
CELLS = f"{DIRECTORY}/cells.json"


class CellEntry(Contract):
    """One cell's facts. `filtered` counts votes that gave none by the reason; after `expires_at` they are others.

    `by_version` counts answers that could have been rated, or thumbs and stars on such answers: see `Voting`.
    """

    rows: int
    filtered: dict[str, int] = {}
    redacted: dict[str, int] = {}
    by_version: dict[str, int] = {}
    expires_at: AwareDatetime | None = None

    def holds(self, as_of: datetime) -> bool:
        return self.expires_at is None or as_of < self.expires_at


class Group(Contract):
    """The files of one split and cell, and a hash of what their rows are made of."""

    content: str
    files: list[FileEntry]


class Index(Contract):
    """`key` names the way the facts were made: with another one they can't be used."""

    key: str
    cells: dict[str, dict[str, CellEntry]]  # kind -> cell -> entry
    groups: dict[str, Group] = {}  # "<split>/<cell>", or "prompts-<split>/<cell>"

    def entries(self, kind: str) -> dict[Cell, CellEntry]:
        return {Cell.parse(name): entry for name, entry in self.cells.get(kind, {}).items()}

    @property
    def filtered(self) -> Counter[str]:
        return sum((Counter(entry.filtered) for entry in self.cells.get(VOTES, {}).values()), Counter())

    @property
    def redacted(self) -> Counter[str]:
        every = (entry for kind in self.cells.values() for entry in kind.values())
        return sum((Counter(entry.redacted) for entry in every), Counter())

    @property
    def voting(self) -> dict[str, Voting]:
        answers, votes = (self._by_version(kind) for kind in (PROMPTS, VOTES))
        return {name: Voting(answers=answers[name], votes=votes[name]) for name in sorted(answers | votes)}

    def _by_version(self, kind: str) -> Counter[str]:
        return sum((Counter(entry.by_version) for entry in self.cells.get(kind, {}).values()), Counter())


def facts_path(kind: str, cell: Cell) -> str:
    return f"{DIRECTORY}/{kind}/{cell}.parquet"
