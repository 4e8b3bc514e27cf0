"""Feedback's own tables. What people wrote stays sealed: open columns only join, cap, split and count.

The tenant leads every primary key. What a person said or was told carries that person's hash, or the key of a row that
does (`choices`, `vote_targets`), so that erasing is one delete per table and the destruction of a data key.
"""

from collections.abc import Iterator
from datetime import date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Date, Index, LargeBinary, SmallInteger, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from infra.database.tables import Base


class VoteStatus(StrEnum):
    """Whether a vote has found the answers it is about: pending → joined | orphaned, orphaned → joined."""

    PENDING = "pending"
    JOINED = "joined"
    ORPHANED = "orphaned"  # waited longer than feedback.orphan_after_s; joins all the same if the answer comes


class EventColumns:
    """What every stored event has: its envelope, where it stood on the log, and its sealed body."""

    rater: Mapped[str | None] = mapped_column(String(64))
    session_id: Mapped[str | None] = mapped_column(Text)
    segment: Mapped[str | None] = mapped_column(Text)
    source: Mapped[str] = mapped_column(String(20))
    consent_train: Mapped[bool]
    consent_explicit: Mapped[bool]
    retain_until: Mapped[datetime | None]
    occurred_at: Mapped[datetime]
    received_at: Mapped[datetime]
    log_partition: Mapped[int]
    log_offset: Mapped[int] = mapped_column(BigInteger)
    bucket: Mapped[int] = mapped_column(SmallInteger)  # see `feedback.cells`
    key_id: Mapped[str] = mapped_column(String(64))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    erased_at: Mapped[datetime | None]  # since when it is blank
    erasure_id: Mapped[str | None] = mapped_column(String(32))  # null: it was kept until `retain_until`


def _only(condition: str) -> dict[str, Any]:
    """A partial index, in the words of both databases."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


def _rare(table: str) -> Iterator[Index]:
    """Of the few events that end or have been erased; the others are not in them."""
    rare = {
        "retention": (("retain_until",), "retain_until IS NOT NULL AND erased_at IS NULL"),
        "erasure": (("tenant", "erasure_id"), "erasure_id IS NOT NULL"),
    }
    for name, (columns, condition) in rare.items():
        yield Index(f"{table}_{name}", *columns, **_only(condition))


class InferenceRow(EventColumns, Base):
    """One request that was answered, failed or was cancelled."""

    __tablename__ = "inferences"
    __table_args__ = (
        Index("inferences_cell", "tenant", "bucket", "occurred_at"),
        Index("inferences_position", "log_partition", "log_offset"),
        Index("inferences_age", "occurred_at", postgresql_using="brin"),
        Index("inferences_rater", "tenant", "rater"),
        Index("inferences_session", "tenant", "session_id"),
        Index("inferences_event", "tenant", "event_id"),
        Index("inferences_rollout", "rollout_id", "received_at", **_only("rollout_id IS NOT NULL")),
        *_rare("inferences"),
    )
    tenant: Mapped[str] = mapped_column(String(100), primary_key=True)
    response_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    event_id: Mapped[str] = mapped_column(String(32))
    alias: Mapped[str] = mapped_column(String(100))
    status: Mapped[str] = mapped_column(String(20))
    stored: Mapped[bool]  # false: the client asked to keep no content
    rateable: Mapped[bool]
    base_revision: Mapped[str] = mapped_column(String(64))
    turn: Mapped[int]
    parent_response_id: Mapped[str | None] = mapped_column(String(200))
    regenerated_from: Mapped[str | None] = mapped_column(String(200))
    rollout_id: Mapped[str | None] = mapped_column(String(40))
    rollout_step: Mapped[int | None] = mapped_column(SmallInteger)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime]


class ChoiceRow(Base):
    """One answer of a request: who wrote it, under which arm, and how it ended."""

    __tablename__ = "choices"
    tenant: Mapped[str] = mapped_column(String(100), primary_key=True)
    response_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[str] = mapped_column(String(200))
    arm: Mapped[str] = mapped_column(String(40))
    arm_propensity: Mapped[float]
    finish_reason: Mapped[str | None] = mapped_column(String(40))


class ShadowVerdictRow(Base):
    """Of one mirrored answer: did the judge score it above the one that was shown? Null: it can't be asked that."""

    __tablename__ = "shadow_verdicts"
    tenant: Mapped[str] = mapped_column(String(100), primary_key=True)
    response_id: Mapped[str] = mapped_column(String(200), primary_key=True)  # the mirrored one's
    rollout_id: Mapped[str] = mapped_column(String(40))
    judge: Mapped[str] = mapped_column(String(200))
    win: Mapped[float | None]  # 1 above, 0 below, 0.5 alike; of several choices the mean
    judged_at: Mapped[datetime]


class VoteEventRow(EventColumns, Base):
    """Every vote that was ever cast: the history behind `votes`."""

    __tablename__ = "vote_events"
    __table_args__ = (
        Index("vote_events_vote", "tenant", "vote_id"),
        Index("vote_events_cell", "tenant", "bucket", "occurred_at"),
        Index("vote_events_position", "log_partition", "log_offset"),
        Index("vote_events_age", "occurred_at", postgresql_using="brin"),
        Index("vote_events_rater", "tenant", "rater"),
        *_rare("vote_events"),
    )
    tenant: Mapped[str] = mapped_column(String(100), primary_key=True)
    event_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    vote_id: Mapped[str] = mapped_column(String(64))  # digest of the vote key
    kind: Mapped[str] = mapped_column(String(20))
    name: Mapped[str] = mapped_column(Text)
    retracted: Mapped[bool]
    pairs: Mapped[int]  # strict choices that it states
    thumbs: Mapped[int]  # answers, or conversations, that it calls good or bad


class VoteRow(Base):
    """The current value of each vote key: the event with the greatest (occurred_at, event_id)."""

    __tablename__ = "votes"
    __table_args__ = (Index("votes_status", "status", "first_seen_at"), Index("votes_rater", "tenant", "rater"))
    tenant: Mapped[str] = mapped_column(String(100), primary_key=True)
    vote_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    event_id: Mapped[str] = mapped_column(String(32))
    occurred_at: Mapped[datetime]
    rater: Mapped[str | None] = mapped_column(String(64))
    alias: Mapped[str | None] = mapped_column(String(100))
    status: Mapped[str] = mapped_column(String(20))
    consent_train: Mapped[bool]
    consent_explicit: Mapped[bool]
    pairs: Mapped[int]  # strict choices that the current value states
    thumbs: Mapped[int]  # answers, or conversations, that it calls good or bad
    counted: Mapped[int]  # how many of the pairs are in the alias' count: joined, consented, kept
    counted_thumbs: Mapped[int]  # and of the thumbs
    first_seen_at: Mapped[datetime]


class VoteTargetRow(Base):
    """What a vote points at: a response id, or `session:<id>`. Unordered; the same for every value of the vote.

    The index by target has every column: of one that hasn't SQLite thinks less than of reading all of a tenant's.
    """

    __tablename__ = "vote_targets"
    __table_args__ = (Index("vote_targets_target", "tenant", "target", "vote_id"),)
    tenant: Mapped[str] = mapped_column(String(100), primary_key=True)
    vote_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    target: Mapped[str] = mapped_column(Text, primary_key=True)


class DeadLetterRow(Base):
    """Where a payload stood that could not be read, and why. Its bytes are on the dead-letter topic only."""

    __tablename__ = "dead_letters"
    tenant: Mapped[str] = mapped_column(String(100), primary_key=True)  # empty where not even that could be read
    topic: Mapped[str] = mapped_column(String(100), primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    offset: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    key: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(Text)
    seen_at: Mapped[datetime]
    state: Mapped[str] = mapped_column(String(20), index=True)
    closed_at: Mapped[datetime | None]
    letter_partition: Mapped[int]  # where the letter with its bytes stands on the dead-letter topic
    letter_offset: Mapped[int] = mapped_column(BigInteger)


class StaleCellRow(Base):
    """A cell whose stored events were blanked at some time: the next dataset looks at it again."""

    __tablename__ = "stale_cells"
    tenant: Mapped[str] = mapped_column(String(100), primary_key=True)
    kind: Mapped[str] = mapped_column(String(10), primary_key=True)  # votes | prompts
    day: Mapped[date] = mapped_column(Date, primary_key=True)
    bucket: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
