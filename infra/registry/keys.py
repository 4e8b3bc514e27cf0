"""API keys: a tenant and scopes; only their hashes are stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.orm import Session

from infra.clock import now
from infra.database.tables import KeyRow
from infra.identity import key_hash
from infra.registry import audit
from infra.registry.errors import NotFound


class Scope(StrEnum):
    CHAT = "chat"
    FEEDBACK = "feedback"
    RATERS = "raters"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a key speaks for."""

    tenant: str
    name: str
    scopes: frozenset[Scope]


def add(session: Session, key: str, *, tenant: str, name: str, scopes: Sequence[Scope], actor: str) -> KeyRow:
    """Idempotent on the key itself."""
    if row := session.get(KeyRow, key_hash(key)):
        return row
    row = KeyRow(key_hash=key_hash(key), tenant=tenant, name=name, scopes=[str(s) for s in scopes], created_at=now())
    session.add(row)
    audit.record(session, tenant=tenant, actor=actor, action="key.create", subject=name, after={"scopes": row.scopes})
    return row


def revoke(session: Session, *, tenant: str, name: str, actor: str) -> None:
    """Raises NotFound."""
    query = select(KeyRow).where(KeyRow.tenant == tenant, KeyRow.name == name, KeyRow.revoked_at.is_(None))
    rows = session.scalars(query).all()
    if not rows:
        raise NotFound(f"there is no live key named {name}")
    for row in rows:
        row.revoked_at = now()
    audit.record(session, tenant=tenant, actor=actor, action="key.revoke", subject=name)


def list_keys(session: Session, tenant: str) -> Sequence[KeyRow]:
    return session.scalars(select(KeyRow).where(KeyRow.tenant == tenant).order_by(KeyRow.created_at)).all()


def principals(session: Session) -> dict[str, Principal]:
    """Key hash -> principal of every live key: what a gateway keeps in memory."""
    rows = session.scalars(select(KeyRow).where(KeyRow.revoked_at.is_(None))).all()
    return {r.key_hash: Principal(r.tenant, r.name, frozenset(Scope(s) for s in r.scopes)) for r in rows}
