"""Regression cases: what was asked in a live answer is asked again of every candidate. Wished for, listed, removed."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints

from gateway.admin.operator import Admin, Alias, Id, Limit, Listing, Name, Reasoned, View, Words
from gateway.errors import NotFound, Unavailable
from gateway.json_route import JsonRoute
from gateway.services import services
from infra.cases import Wanted, make_row
from infra.keystore.base import KeyringAway
from infra.registry import cases
from infra.registry.cases import CaseState

router = APIRouter(route_class=JsonRoute)

ResponseId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]


class CaseBody(Wanted):
    """At least one check. What was asked is looked up; nobody's words need to be sent, and the reason is for all."""

    response_id: ResponseId
    reason: Annotated[Words, StringConstraints(min_length=1)]
    name: Name | None = Field(None, description="What reports call it; default: one that is made up.")


class CaseView(View):
    """Nobody's words. `checks` tells how many there are of each kind; `refusal` why a refused one can be none."""

    name: str
    state: CaseState
    alias: str | None
    response_id: str
    checks: dict[str, Any]
    refusal: str | None
    actor: str
    reason: str
    requested_at: datetime
    decided_at: datetime | None


@router.post("/gates/cases", status_code=201)
def add(request: Request, admin: Admin, body: CaseBody) -> CaseView:
    """Asks for it; within about a second it is `live`, or `refused` with what to do. Refused ones stay for an hour."""
    room = services(request)
    if not room.identity.owns(admin.tenant, body.response_id):
        raise NotFound(f"there is no answer {body.response_id}", param="response_id")
    try:
        row = make_row(room.sealer, admin.tenant, body.response_id, body, name=body.name)
    except KeyringAway:
        raise Unavailable("the data keys cannot be reached", code="keyring_unavailable") from None
    with admin.transaction() as session:
        return CaseView.model_validate(cases.request(session, row, actor=admin.name, reason=body.reason))


@router.get("/gates/cases")
def list_cases(admin: Admin, alias: Alias = None, limit: Limit = 100) -> Listing[CaseView]:
    """Those that can't be read any more too."""
    with admin.reading() as session:
        rows = cases.list_cases(session, admin.tenant, alias=alias, limit=limit)
        return Listing(data=[CaseView.model_validate(row) for row in rows])


@router.get("/gates/cases/{name:id}")
def get_case(admin: Admin, name: Id) -> CaseView:
    with admin.reading() as session:
        return CaseView.model_validate(cases.get(session, admin.tenant, name))


@router.post("/gates/cases/{name:id}:remove", status_code=204)
def remove(admin: Admin, name: Id, body: Reasoned) -> None:
    """No candidate is asked any more, and its words are gone."""
    with admin.transaction() as session:
        cases.remove(session, tenant=admin.tenant, name=name, actor=admin.name, reason=body.reason)
