"""From the staged rows into the tables, set by set, in SQL that SQLite and PostgreSQL both understand.

Each statement may be run again with the same rows, by any number of processes at once: what decides is in the rows, not
in who came first. Rows are locked in the order of their keys, so that two processes don't wait for each other.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.orm import Session

from feedback.cells import PROMPTS, VOTES
from feedback.intake import stale, statistics
from feedback.intake.joins import as_written
from feedback.intake.staging import COLUMNS, PREFIX
from feedback.tables import VoteStatus
from infra.database.tables import UtcDateTime
from infra.envelopes import stored_at

KEYS = {
    "inferences": ("tenant", "response_id"),
    "choices": ("tenant", "response_id", "index"),
    "vote_events": ("tenant", "event_id"),
    "vote_targets": ("tenant", "vote_id", "target"),
    "votes": ("tenant", "vote_id"),
}
VOTE = ("tenant", "vote_id", "event_id", "occurred_at", "rater", "consent_train", "consent_explicit", "pairs", "thumbs")


def _quoted(names: tuple[str, ...], table: str = "") -> str:
    return ", ".join(f'{table}"{name}"' for name in names)


def _upsert(table: str, select: str, columns: tuple[str, ...], where: str, extra: str = "") -> TextClause:
    """`select` gives these columns; a row that is there already is replaced `where` that holds."""
    key = KEYS[table]
    values = ", ".join(f'"{name}" = excluded."{name}"' for name in columns if name not in key)
    return text(
        f"INSERT INTO {table} ({_quoted(columns)}{extra}) {select} ORDER BY {_quoted(key)}"
        f" ON CONFLICT ({_quoted(key)}) DO UPDATE SET {values} WHERE {where} RETURNING 1"
    )


def _incoming(table: str) -> str:
    return f"SELECT {_quoted(COLUMNS[table])} FROM {PREFIX}{table} WHERE true"


ERASED = [
    text(
        f"DELETE FROM {PREFIX}{table} WHERE EXISTS (SELECT 1 FROM erasures x WHERE x.tenant = {PREFIX}{table}.tenant"
        f" AND x.rater = {PREFIX}{table}.rater AND {PREFIX}{table}.occurred_at <= x.up_to) RETURNING sealed"
    )
    for table in ("inferences", "vote_events")
]  # choices go in with their inferences only
TARGETS_OF_NOTHING = text(
    f"DELETE FROM {PREFIX}vote_targets WHERE NOT EXISTS (SELECT 1 FROM {PREFIX}vote_events e"
    f" WHERE e.tenant = {PREFIX}vote_targets.tenant AND e.vote_id = {PREFIX}vote_targets.vote_id)"
)
EARLIER_ANSWER = "(excluded.occurred_at, excluded.event_id) < (inferences.occurred_at, inferences.event_id)"
# Of two events of one response the earlier one stays, in any order; its choices go with it.
REPLACED_CHOICES = (
    "DELETE FROM choices WHERE (tenant, response_id) IN ("
    f" SELECT n.tenant, n.response_id FROM {PREFIX}inferences n"
    "  JOIN inferences o ON o.tenant = n.tenant AND o.response_id = n.response_id"
    "  WHERE (n.occurred_at, n.event_id) < (o.occurred_at, o.event_id))"
)
REPLACED = f"""{PREFIX}inferences n
  JOIN inferences i ON i.tenant = n.tenant AND i.response_id = n.response_id
  AND (n.occurred_at, n.event_id) < (i.occurred_at, i.event_id)"""
EARLIER_VOTE = f"""{PREFIX}vote_events n
  JOIN vote_events o ON o.tenant = n.tenant AND o.event_id = n.event_id AND n.occurred_at < o.occurred_at"""
# Where an answer was before its earlier event came, all values of a vote one of whose events came again as earlier, and
# votes on conversations that had either.
LEFT = {
    PROMPTS: f"SELECT i.tenant, i.occurred_at, i.bucket FROM {REPLACED}",
    VOTES: f"""
SELECT e.tenant, e.occurred_at, e.bucket FROM {EARLIER_VOTE}
  JOIN vote_events e ON e.tenant = o.tenant AND e.vote_id = o.vote_id
UNION SELECT e.tenant, e.occurred_at, e.bucket FROM {REPLACED} {stale.TO_CONVERSATIONS}
UNION SELECT e.tenant, e.occurred_at, e.bucket FROM {EARLIER_VOTE}
  JOIN vote_targets m ON m.tenant = o.tenant AND m.vote_id = o.vote_id
  JOIN inferences i ON i.tenant = m.tenant AND i.response_id = m.target {stale.TO_CONVERSATIONS}""",
}
ANSWERS = _upsert("inferences", _incoming("inferences"), COLUMNS["inferences"], EARLIER_ANSWER)
CHOICES = (
    f"INSERT INTO choices ({_quoted(COLUMNS['choices'])})"
    f" SELECT {_quoted(COLUMNS['choices'], 'c.')} FROM {PREFIX}choices c"
    f" JOIN {PREFIX}inferences n ON n.tenant = c.tenant AND n.response_id = c.response_id"
    " JOIN inferences i ON i.tenant = n.tenant AND i.response_id = n.response_id AND i.event_id = n.event_id"
    f" WHERE true ORDER BY {_quoted(KEYS['choices'], 'c.')} ON CONFLICT DO NOTHING"
)
# A vote sent again under its Idempotency-Key is the same event at a later time: the earliest stays, in any order.
HISTORY = _upsert(
    "vote_events", _incoming("vote_events"), COLUMNS["vote_events"], "excluded.occurred_at < vote_events.occurred_at"
)
TARGETS = text(
    f"INSERT INTO vote_targets ({_quoted(COLUMNS['vote_targets'])}) {_incoming('vote_targets')}"
    f" ORDER BY {_quoted(KEYS['vote_targets'])} ON CONFLICT DO NOTHING"
)
# The current value is the latest event of the history. It only ever goes back where its own event turned out earlier.
LATEST = (
    f"SELECT {_quoted(VOTE)}, '{VoteStatus.PENDING}', 0, 0, :now FROM ("
    "  SELECT e.*,"
    "   row_number() OVER (PARTITION BY e.tenant, e.vote_id ORDER BY occurred_at DESC, event_id DESC) AS place"
    f"  FROM (SELECT DISTINCT tenant, vote_id FROM {PREFIX}vote_events) n"
    "  JOIN vote_events e ON e.tenant = n.tenant AND e.vote_id = n.vote_id WHERE e.erasure_id IS NULL"
    " ) latest WHERE place = 1"
)
CURRENT = _upsert(
    "votes", LATEST, VOTE,
    "(excluded.occurred_at, excluded.event_id) > (votes.occurred_at, votes.event_id)"
    " OR votes.occurred_at <> (SELECT h.occurred_at FROM vote_events h"
    "  WHERE h.tenant = votes.tenant AND h.event_id = votes.event_id)",
    extra=", status, counted, counted_thumbs, first_seen_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dropped:
    """Events of erased people that came late, and where in the artifact store their large bodies are."""

    events: int = 0
    bodies: tuple[str, ...] = ()


def drop_erased(session: Session) -> Dropped:
    """Of what is staged, whatever key it was sealed with: a replay brings nobody back."""
    sealed = [bytes(body) for statement in ERASED for (body,) in session.execute(statement).all()]
    if sealed:
        session.execute(TARGETS_OF_NOTHING)
    return Dropped(len(sealed), tuple(path for body in sealed if (path := stored_at(body))))


def merge(session: Session, at: datetime) -> int:
    """Stores what is staged; returns how many events were new."""
    for kind, query in LEFT.items():
        stale.put(session, kind, stale.cells_of(session, query), at)
    session.execute(text(as_written(session, REPLACED_CHOICES)))
    fresh = len(session.execute(ANSWERS).all())
    statistics.refresh(session, "inferences")
    session.execute(text(as_written(session, CHOICES)))
    fresh += len(session.execute(HISTORY).all())
    session.execute(TARGETS)
    session.execute(text(as_written(session, CURRENT.text)).bindparams(bindparam("now", at, UtcDateTime())))
    statistics.refresh(session, "votes", "vote_targets")
    return fresh
