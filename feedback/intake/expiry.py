"""Old events leave the database, some at a time: what no dataset's window reaches any more."""

from datetime import datetime

from sqlalchemy import bindparam, text
from sqlalchemy.orm import Session

from infra.database.tables import UtcDateTime

STEP = 5000  # events in one transaction
# In the order of their time, for which there is an index: the same ones for every statement.
OLD = "SELECT tenant, {key} FROM {table} WHERE occurred_at < :before ORDER BY occurred_at, tenant, {order} LIMIT :step"
OLD_ANSWERS, OLD_VOTES, OLD_VALUES = (
    OLD.format(table=table, key=key, order=order)
    for table, key, order in (
        ("inferences", "response_id", "response_id"),
        ("vote_events", "event_id", "event_id"),
        ("vote_events", "vote_id", "event_id"),
    )
)
VALUES = f"(tenant, vote_id) IN ({OLD_VALUES}) AND (tenant, event_id) IN ({OLD_VOTES})"
STATEMENTS = (
    f"DELETE FROM choices WHERE (tenant, response_id) IN ({OLD_ANSWERS})",
    f"DELETE FROM shadow_verdicts WHERE (tenant, response_id) IN ({OLD_ANSWERS})",
    f"DELETE FROM inferences WHERE (tenant, response_id) IN ({OLD_ANSWERS})",
    f"DELETE FROM vote_targets WHERE (tenant, vote_id) IN (SELECT tenant, vote_id FROM votes WHERE {VALUES})",
    f"DELETE FROM votes WHERE {VALUES}",
    f"DELETE FROM vote_events WHERE (tenant, event_id) IN ({OLD_VOTES})",
)


def drop_older(session: Session, before: datetime, step: int = STEP) -> int:
    """At most `step` answers and as many votes; returns how many rows went."""
    moment = bindparam("before", before, UtcDateTime())
    return sum(
        session.connection().execute(text(statement).bindparams(moment, step=step)).rowcount for statement in STATEMENTS
    )
