"""Queries that begin with a batch and look up what it touches.

PostgreSQL sees how few rows a batch has. SQLite takes each table for a million rows unless it was analysed, which a
product's tables are not, and would sooner begin with all events that are stored.
"""

import re

from sqlalchemy.orm import Session

INNER_JOIN = re.compile(r"(?<!LEFT )\bJOIN\b")


def as_written(session: Session, query: str) -> str:
    """With the tables read in the order of the query: to SQLite a cross join says that, whatever its condition."""
    on_sqlite = session.connection().dialect.name == "sqlite"
    return INNER_JOIN.sub("CROSS JOIN", query) if on_sqlite else query
