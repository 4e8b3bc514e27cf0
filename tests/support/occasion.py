"""The version that questions of tests come with."""

from datetime import UTC, datetime

from trainer.queries import Occasion

OCCASION = Occasion("assistant-1-aaaaaaaa", "assistant", "default", datetime(2026, 3, 10, 12, tzinfo=UTC))
