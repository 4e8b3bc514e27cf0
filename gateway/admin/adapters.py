"""Adapters: what was published and what became of it."""

from datetime import datetime
from typing import Any

from fastapi import APIRouter

from gateway.admin.operator import Admin, Alias, Id, Limit, Listing, View
from infra.registry import adapters
from infra.registry.adapters import AdapterState

router = APIRouter()


class AdapterView(View):
    version: str
    alias: str
    state: AdapterState
    cycle_id: str | None
    path: str
    manifest: dict[str, Any]
    gates: dict[str, Any] | None
    erasure: dict[str, Any] | None
    reason: str | None
    created_at: datetime
    updated_at: datetime


@router.get("/adapters")
def list_adapters(admin: Admin, alias: Alias = None, limit: Limit = 100) -> Listing[AdapterView]:
    with admin.reading() as session:
        rows = adapters.list_adapters(session, admin.tenant, alias=alias, limit=limit)
        return Listing(data=[AdapterView.model_validate(row) for row in rows])


@router.get("/adapters/{version:id}")
def get_adapter(admin: Admin, version: Id) -> AdapterView:
    with admin.reading() as session:
        return AdapterView.model_validate(adapters.get(session, version, admin.tenant))
