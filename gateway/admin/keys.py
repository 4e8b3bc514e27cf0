"""API keys of this tenant: listed, made, revoked. A key is shown once, when it is made."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from gateway.admin.operator import Admin, Body, Id, Listing, Name, View
from gateway.errors import Conflict
from gateway.json_route import JsonRoute
from infra.identity import new_key
from infra.registry import keys
from infra.registry.keys import Scope

router = APIRouter(route_class=JsonRoute)


class KeyView(View):
    name: str
    scopes: list[Scope]
    created_at: datetime
    revoked_at: datetime | None


class MadeKey(KeyView):
    key: str


class KeyBody(Body):
    name: Name
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))]


@router.get("/keys")
def list_keys(admin: Admin) -> Listing[KeyView]:
    with admin.reading() as session:
        return Listing(data=[KeyView.model_validate(row) for row in keys.list_keys(session, admin.tenant)])


@router.post("/keys", status_code=201)
def create_key(admin: Admin, body: KeyBody) -> MadeKey:
    key = new_key()
    with admin.transaction() as session:
        if any(row.name == body.name and not row.revoked_at for row in keys.list_keys(session, admin.tenant)):
            raise Conflict(f"there is a live key named {body.name} already")
        scopes = sorted(set(body.scopes))
        row = keys.add(session, key, tenant=admin.tenant, name=body.name, scopes=scopes, actor=admin.name)
        return MadeKey(**KeyView.model_validate(row).model_dump(), key=key)


@router.post("/keys/{name:id}:revoke", status_code=204)
def revoke_key(admin: Admin, name: Id) -> None:
    """Gateways stop taking it within a second."""
    with admin.transaction() as session:
        keys.revoke(session, tenant=admin.tenant, name=name, actor=admin.name)
