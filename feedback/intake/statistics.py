"""PostgreSQL plans by what it knows of its tables. Of one that has just begun to grow it knows nothing until its own
daemon comes by, a minute later: until then a lookup by key may read every row of its tenant, once for each event.
"""

from sqlalchemy import bindparam, text
from sqlalchemy.orm import Session

KNOWN_PAGES = 10_000  # from this size on the daemon is often enough
# Never looked at, or twice as large as when it was.
OUTGROWN = text(
    "SELECT relname FROM pg_class WHERE oid IN (SELECT to_regclass(name) FROM unnest(CAST(:tables AS text[])) name)"
    " AND relpages < :most AND (reltuples < 0 OR pg_relation_size(oid) > 2 * 8192 * greatest(relpages, 1))"
).bindparams(bindparam("most", KNOWN_PAGES))


def refresh(session: Session, *tables: str) -> None:
    """Within the transaction that fills them; a table that another process looks at now is left to it."""
    if session.connection().dialect.name != "postgresql":
        return
    for name in session.scalars(OUTGROWN, {"tables": list(tables)}).all():
        session.execute(text(f"ANALYZE (SKIP_LOCKED) {name}"))
