"""Versions that could not be brought onto an engine, and why."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trouble:
    """`loads` is false where the files themselves were refused: such a version never gets near an engine."""

    reason: str
    loads: bool
