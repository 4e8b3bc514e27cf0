"""Takes what people wrote out of the database: the rows stay, blank, and no longer count.

As in `feedback.intake.merging` it is done set by set, in SQL of both databases, and may be done again. Before anything
goes, the cells that it was in are noted, and large bodies leave the artifact store.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import LargeBinary, TextClause, bindparam, text
from sqlalchemy.orm import Session

from feedback.cells import PROMPTS, VOTES
from feedback.intake import matching, stale
from feedback.intake.joins import as_written
from infra.artifacts import ArtifactStore
from infra.clock import now
from infra.database.tables import ErasureRow, UtcDateTime
from infra.envelopes import REFERENCE, stored_at
from infra.registry import fleet

SCRATCH = {"gone_inferences": "tenant TEXT, response_id TEXT", "gone_votes": "tenant TEXT, vote_id TEXT, event_id TEXT"}
SOURCES = {
    "gone_inferences": "tenant, response_id FROM inferences",
    "gone_votes": "tenant, vote_id, event_id FROM vote_events",
}
PERSON = "tenant = :tenant AND rater = :rater AND occurred_at <= :up_to"
EXPIRED = "retain_until <= :now AND erased_at IS NULL LIMIT :most"
# Of the votes themselves, of everybody's votes on the answers, and of those on conversations that either belong to.
VOTE_CELLS = f"""
SELECT e.tenant, e.occurred_at, e.bucket FROM gone_votes g
  JOIN vote_events e ON e.tenant = g.tenant AND e.event_id = g.event_id
UNION SELECT e.tenant, e.occurred_at, e.bucket FROM gone_inferences g
  JOIN vote_targets t ON t.tenant = g.tenant AND t.target = g.response_id
  JOIN vote_events e ON e.tenant = t.tenant AND e.vote_id = t.vote_id
UNION SELECT e.tenant, e.occurred_at, e.bucket FROM gone_inferences g
  JOIN inferences i ON i.tenant = g.tenant AND i.response_id = g.response_id {stale.TO_CONVERSATIONS}
UNION SELECT e.tenant, e.occurred_at, e.bucket FROM gone_votes g
  JOIN vote_targets m ON m.tenant = g.tenant AND m.vote_id = g.vote_id
  JOIN inferences i ON i.tenant = m.tenant AND i.response_id = m.target {stale.TO_CONVERSATIONS}"""
PROMPT_CELLS = """
SELECT i.tenant, i.occurred_at, i.bucket FROM gone_inferences g
  JOIN inferences i ON i.tenant = g.tenant AND i.response_id = g.response_id"""
BODIES = f"""
SELECT i.sealed FROM gone_inferences g JOIN inferences i ON i.tenant = g.tenant AND i.response_id = g.response_id
  WHERE substr(i.sealed, 1, {len(REFERENCE)}) = :reference
UNION ALL SELECT e.sealed FROM gone_votes g JOIN vote_events e ON e.tenant = g.tenant AND e.event_id = g.event_id
  WHERE substr(e.sealed, 1, {len(REFERENCE)}) = :reference"""
VOTES_GONE = text(
    "DELETE FROM votes WHERE (tenant, vote_id) IN (SELECT tenant, vote_id FROM gone_votes)"
    " AND (tenant, event_id) IN (SELECT tenant, event_id FROM gone_votes)"
    " RETURNING tenant, alias, counted, counted_thumbs"
)
TARGETS_GONE = text(
    "DELETE FROM vote_targets WHERE (tenant, vote_id) IN (SELECT tenant, vote_id FROM gone_votes) AND NOT EXISTS"
    " (SELECT 1 FROM votes v WHERE v.tenant = vote_targets.tenant AND v.vote_id = vote_targets.vote_id) RETURNING 1"
)
VERDICTS_GONE = text(
    "DELETE FROM shadow_verdicts WHERE (tenant, response_id) IN (SELECT tenant, response_id FROM gone_inferences)"
    " RETURNING 1"
)
BLANK = (
    "sealed = :nothing, session_id = NULL, segment = NULL, consent_train = false, consent_explicit = true,"
    " erased_at = coalesce(erased_at, :at), erasure_id = :erasure_id"
)
BLANKED = {
    "inferences": f"UPDATE inferences SET stored = false, received_at = :at, {BLANK}{{rater}}"
    " WHERE (tenant, response_id) IN (SELECT tenant, response_id FROM gone_inferences) RETURNING 1",
    "vote_events": f"UPDATE vote_events SET pairs = 0, thumbs = 0, {BLANK}{{rater}}"
    " WHERE (tenant, event_id) IN (SELECT tenant, event_id FROM gone_votes) RETURNING 1",
}
# The time at which it was stored is how a rollout's tallies learn that an answer is to be counted afresh.
VOTED_ON = text(
    "UPDATE inferences SET received_at = :at WHERE rollout_id IS NOT NULL AND (tenant, response_id) IN ("
    " SELECT t.tenant, t.target FROM gone_votes g JOIN vote_targets t ON t.tenant = g.tenant AND t.vote_id = g.vote_id)"
)
VOTES_ON_THEM = (
    "INSERT INTO matched_votes SELECT DISTINCT t.tenant, t.vote_id FROM gone_inferences g"
    " JOIN vote_targets t ON t.tenant = g.tenant AND t.target = g.response_id"
)


def blank_person(session: Session, artifacts: ArtifactStore, tombstone: ErasureRow) -> Counter[str]:
    """Everything of one person up to a moment; returns how many rows that were, by table."""
    values = {"tenant": tombstone.tenant, "rater": tombstone.rater, "up_to": tombstone.up_to}
    chosen = _choose(session, PERSON, values)
    return _blank(session, artifacts, tombstone.erasure_id) if chosen else Counter()


def blank_expired(session: Session, artifacts: ArtifactStore, most: int) -> Counter[str]:
    """At most so many events of each kind whose `retain_until` has passed. Whose they were stays known by the hash."""
    chosen = _choose(session, EXPIRED, {"now": now(), "most": most})
    return _blank(session, artifacts, None) if chosen else Counter()


def _choose(session: Session, which: str, values: Mapping[str, Any]) -> int:
    """Returns how many events that are."""
    found = 0
    times = [bindparam(name, type_=UtcDateTime()) for name in ("up_to", "now") if name in values]
    for name, columns in SCRATCH.items():
        session.execute(text(f"CREATE TEMP TABLE IF NOT EXISTS {name} ({columns})"))
        session.execute(text(f"DELETE FROM {name}"))
        chosen = text(f"INSERT INTO {name} SELECT {SOURCES[name]} WHERE {which}").bindparams(*times)
        found += session.connection().execute(chosen, dict(values)).rowcount
    return found


def _blank(session: Session, artifacts: ArtifactStore, erasure_id: str | None) -> Counter[str]:
    at = now()
    stale.put(session, VOTES, stale.cells_of(session, VOTE_CELLS), at)
    stale.put(session, PROMPTS, stale.cells_of(session, PROMPT_CELLS), at)
    bodies = session.execute(
        text(as_written(session, BODIES)).bindparams(bindparam("reference", REFERENCE, LargeBinary))
    )
    artifacts.delete([path for (sealed,) in bodies.all() if (path := stored_at(bytes(sealed)))])
    done = Counter({"votes": _take_votes(session)})
    session.execute(VOTED_ON.bindparams(bindparam("at", at, UtcDateTime())))
    done["vote_targets"] = len(session.execute(TARGETS_GONE).all())
    for table, statement in BLANKED.items():
        whose = ", rater = NULL" if erasure_id else ""
        done[table] = len(session.execute(_bound(statement.format(rater=whose), at, erasure_id)).all())
    done["shadow_verdicts"] = len(session.execute(VERDICTS_GONE).all())
    matching.match_chosen(session, text(as_written(session, VOTES_ON_THEM)))
    return +done


def _take_votes(session: Session) -> int:
    """They leave the counts too."""
    gone = session.execute(VOTES_GONE).all()
    pairs, thumbs = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for tenant, alias, counted, counted_thumbs in gone:
        pairs[tenant, alias] += counted
        thumbs[tenant, alias] += counted_thumbs
    for tenant, alias in sorted({*+pairs, *+thumbs}):
        fleet.add_counts(session, tenant, alias, pairs=-pairs[tenant, alias], thumbs=-thumbs[tenant, alias])
    return len(gone)


def _bound(statement: str, at: datetime, erasure_id: str | None) -> TextClause:
    return text(statement).bindparams(
        bindparam("nothing", b"", LargeBinary), bindparam("at", at, UtcDateTime()), erasure_id=erasure_id
    )
