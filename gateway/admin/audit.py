"""The audit: who did what, why, and what it changed."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from gateway.admin.operator import Admin, Limit, Listing, View
from infra.registry import audit

router = APIRouter()

Subject = Annotated[
    str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="Only this cycle, version or key.")
]


class AuditView(View):
    audit_id: int
    at: datetime
    actor: str
    action: str
    subject: str
    reason: str
    before: dict[str, Any]
    after: dict[str, Any]


@router.get("/audit")
def list_audit(admin: Admin, subject: Subject = None, limit: Limit = 100) -> Listing[AuditView]:
    with admin.reading() as session:
        rows = audit.list_entries(session, admin.tenant, subject=subject, limit=limit)
        return Listing(data=[AuditView.model_validate(row) for row in rows])
