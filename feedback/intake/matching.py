"""Finds the answers of votes and the votes of answers, and counts the alias' pairs and thumbs by what it found.

It may be run again for the same votes. Two processes that store a vote and its answer at one time may both miss what
the other stored: votes that came lately and still wait are looked at again now and then.
"""

from datetime import datetime

from sqlalchemy import TextClause, bindparam, text
from sqlalchemy.orm import Session

from feedback.intake.joins import as_written
from feedback.intake.staging import PREFIX
from feedback.tables import VoteStatus
from feedback.votes import SESSION
from infra.contracts.events import InferenceStatus
from infra.database.tables import UtcDateTime
from infra.registry import fleet

# Votes of the batch, votes on its answers, and votes on its conversations.
TOUCHED = f"""
SELECT tenant, vote_id FROM {PREFIX}vote_events
UNION SELECT t.tenant, t.vote_id FROM {PREFIX}inferences n
  JOIN vote_targets t ON t.tenant = n.tenant AND t.target = n.response_id
UNION SELECT t.tenant, t.vote_id FROM {PREFIX}inferences n
  JOIN vote_targets t ON t.tenant = n.tenant AND t.target = '{SESSION}' || n.session_id
  WHERE n.session_id IS NOT NULL"""
WAITING = f"SELECT tenant, vote_id FROM votes WHERE status = '{VoteStatus.PENDING}' AND first_seen_at > :since"
# What a vote's answers are known to be without opening a body: as `feedback.judgements.consent.covers` says, in SQL.
USABLE = f"""
i.stored AND i.status = '{InferenceStatus.COMPLETED}'
AND NOT (i.consent_explicit AND NOT i.consent_train) AND NOT (v.consent_explicit AND NOT v.consent_train)
AND CASE WHEN i.rater = v.rater THEN i.consent_train OR v.consent_train ELSE i.consent_train AND v.consent_train END"""
# Of an expression SQLite sees no order: for the minimum of a column it would read all answers of a tenant in theirs.
FOUND = f"""
SELECT v.tenant, v.vote_id, v.counted, v.counted_thumbs, min(i.alias),
  min(CASE WHEN t.target NOT LIKE '{SESSION}%' AND {USABLE} THEN v.pairs ELSE 0 END),
  min(CASE WHEN {USABLE} THEN v.thumbs ELSE 0 END)
FROM matched_votes m
JOIN votes v ON v.tenant = m.tenant AND v.vote_id = m.vote_id
JOIN vote_targets t ON t.tenant = v.tenant AND t.vote_id = v.vote_id
LEFT JOIN inferences i ON i.tenant = t.tenant AND i.response_id = (
  CASE WHEN t.target NOT LIKE '{SESSION}%' THEN t.target ELSE (
    SELECT min(s.response_id || '') FROM inferences s
    WHERE s.tenant = t.tenant AND s.session_id = substr(t.target, {len(SESSION) + 1})) END)
GROUP BY v.tenant, v.vote_id, v.counted, v.counted_thumbs HAVING count(i.response_id) = count(*)"""
LOCKED = text(
    "SELECT 1 FROM votes WHERE (tenant, vote_id) IN (SELECT tenant, vote_id FROM matched_votes)"
    " ORDER BY tenant, vote_id FOR UPDATE"
)
JOINED = text(
    f"UPDATE votes SET status = '{VoteStatus.JOINED}', alias = f.alias, counted = f.counted,"
    " counted_thumbs = f.counted_thumbs"
    " FROM found_votes f WHERE votes.tenant = f.tenant AND votes.vote_id = f.vote_id"
)
GAINED = text(
    "SELECT tenant, alias, sum(counted - before), sum(counted_thumbs - before_thumbs) FROM found_votes"
    " GROUP BY tenant, alias ORDER BY tenant, alias"
)
SCRATCH = {
    "matched_votes": "tenant TEXT, vote_id TEXT",
    "found_votes": (
        "tenant TEXT, vote_id TEXT, before INTEGER, before_thumbs INTEGER, alias TEXT, counted INTEGER,"
        " counted_thumbs INTEGER"
    ),
}


def match_batch(session: Session) -> None:
    """Joins what is staged with what is there."""
    _match(session, text(f"INSERT INTO matched_votes {as_written(session, TOUCHED)}"))


def match_waiting(session: Session, since: datetime) -> None:
    """Looks once more at votes that came after `since` and wait."""
    _match(session, text(f"INSERT INTO matched_votes {WAITING}").bindparams(bindparam("since", since, UtcDateTime())))


def match_chosen(session: Session, chosen: TextClause) -> None:
    """`chosen` puts (tenant, vote_id) into `matched_votes`."""
    _match(session, chosen)


def _match(session: Session, touched: TextClause) -> None:
    for name, columns in SCRATCH.items():
        session.execute(text(f"CREATE TEMP TABLE IF NOT EXISTS {name} ({columns})"))
        session.execute(text(f"DELETE FROM {name}"))
    session.execute(touched)
    if session.connection().dialect.name == "postgresql":  # what they counted before is read under the lock
        session.execute(LOCKED)
    session.execute(text(f"INSERT INTO found_votes {as_written(session, FOUND)}"))
    session.execute(JOINED)
    for tenant, alias, pairs, thumbs in session.execute(GAINED).all():
        if pairs or thumbs:
            fleet.add_counts(session, tenant, alias, pairs=pairs, thumbs=thumbs)
