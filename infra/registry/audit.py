"""Who did what, why, and what it changed. Append-only."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from infra.clock import now
from infra.database.tables import AuditRow


def record(
    session: Session,
    *,
    tenant: str,
    actor: str,
    action: str,
    subject: str,
    reason: str = "",
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    row = AuditRow(at=now(), tenant=tenant, actor=actor, action=action, subject=subject, reason=reason)
    row.before, row.after = before or {}, after or {}
    session.add(row)


def list_entries(session: Session, tenant: str, *, subject: str | None = None, limit: int = 100) -> Sequence[AuditRow]:
    """Newest first."""
    query = select(AuditRow).where(AuditRow.tenant == tenant).order_by(AuditRow.audit_id.desc()).limit(limit)
    return session.scalars(query if subject is None else query.where(AuditRow.subject == subject)).all()
