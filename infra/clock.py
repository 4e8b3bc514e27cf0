"""The one place that asks for the time, so that everything stored is UTC and aware."""

from datetime import UTC, datetime


def now() -> datetime:
    return datetime.now(UTC)
