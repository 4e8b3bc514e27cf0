"""Events and rows by day and bucket, so that a late event or an erased person touches few files."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

VOTES, PROMPTS = "votes", "prompts"  # the two kinds of cells
BUCKETS = 8  # stored with every event: another number needs a migration


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One UTC day's events of the people in one bucket."""

    day: date
    bucket: int

    def __str__(self) -> str:
        return f"{self.day.isoformat()}-{self.bucket}"

    @property
    def start(self) -> datetime:
        return datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """The first moment that is not part of it."""
        return self.start + timedelta(days=1)

    @classmethod
    def parse(cls, name: str) -> "Cell":
        day, _, bucket = name.rpartition("-")
        return cls(date.fromisoformat(day), int(bucket))

    @classmethod
    def of(cls, moment: datetime, bucket: int) -> "Cell":
        return cls(moment.astimezone(UTC).date(), bucket)


def bucket_of(owner: str) -> int:
    """`owner` is the rater; of an event that names nobody its vote id or response id."""
    return hashlib.sha256(owner.encode()).digest()[0] % BUCKETS


def start_of_day(moment: datetime) -> datetime:
    day = moment.astimezone(UTC).date()
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
