"""The principles by which a judge is to judge: one a line, in the words that the model is given."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from feedback.errors import FeedbackError

OURS = "constitution.txt"


class NoConstitution(FeedbackError):
    """The file with the principles can't be read, or holds none."""


@dataclass(frozen=True, slots=True)
class Constitution:
    principles: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Two with the same digest say the same, line by line."""
        return hashlib.sha256("\n".join(self.principles).encode()).hexdigest()[:12]


def read_constitution(path: str) -> Constitution:
    """The operator's own, or the one that comes along where `path` is empty. Blank lines and lines with # say nothing.

    Raises NoConstitution.
    """
    try:
        text = Path(path).read_text(encoding="utf-8") if path else files(__package__).joinpath(OURS).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NoConstitution(f"the constitution {path} cannot be read: {error}") from None
    lines = (line.strip() for line in text.splitlines())
    principles = tuple(line for line in lines if line and not line.startswith("#"))
    if not principles:
        raise NoConstitution(f"the constitution {path} holds no principle")
    return Constitution(principles)
