"""Check questions: planted, listed, retired. Where they are put before raters: `gateway.questions`."""

import asyncio
from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter, Request

from gateway.admin.operator import Admin, Alias, Id, Limit, Listing, Operator
from gateway.json_route import JsonRoute
from gateway.questions import Pair, make_pair
from gateway.services import services
from infra.checks import Planting, Question, make_planting
from infra.contracts.events import INFERENCE_TOPIC
from infra.database.tables import CheckRow
from infra.registry import checks

router = APIRouter(route_class=JsonRoute)


class PlantedCheck(Pair):
    """Neither the order of the answers nor their ids say which is the better one."""

    check_id: str
    alias: str
    segment: str | None


class CheckView(PlantedCheck):
    """`better` names the answer that is known to be."""

    better: Literal["a", "b"]
    actor: str
    planted_at: datetime
    retired_at: datetime | None


@router.post("/checks", status_code=201)
async def plant(request: Request, admin: Admin, body: Question) -> PlantedCheck:
    """Two answers of which the better one is known; 201 means that both can be compared like any others."""
    room = services(request)
    alias = await asyncio.to_thread(_alias, admin, body)
    planting = make_planting(room.identity, admin.tenant, alias, body, admin.name)
    for event, header in planting.events:
        await room.ballots.keep(INFERENCE_TOPIC, event.response_id, event, header)
    return PlantedCheck.model_validate(await asyncio.to_thread(_kept, admin, planting))


@router.get("/checks")
def list_checks(admin: Admin, alias: Alias = None, limit: Limit = 100) -> Listing[CheckView]:
    """Those that are retired too."""
    with admin.reading() as session:
        rows = checks.list_checks(session, admin.tenant, alias=alias, limit=limit)
        return Listing(data=[CheckView.model_validate(_whole(row)) for row in rows])


@router.delete("/checks/{check_id:id}", status_code=204)
def retire(admin: Admin, check_id: Id) -> None:
    """It is handed out no more; votes on it go on counting."""
    with admin.transaction() as session:
        checks.retire(session, tenant=admin.tenant, check_id=check_id, actor=admin.name)


def _alias(admin: Operator, question: Question) -> str:
    with admin.reading() as session:
        return checks.served_alias(session, question.model, admin.alias)


def _kept(admin: Operator, planting: Planting) -> dict[str, Any]:
    with admin.transaction() as session:
        return _told(checks.add(session, planting.row))


def _told(row: CheckRow) -> dict[str, Any]:
    return {**make_pair(row).model_dump(), "check_id": row.check_id, "alias": row.alias, "segment": row.segment}


def _whole(row: CheckRow) -> dict[str, Any]:
    more = ("better", "actor", "planted_at", "retired_at")
    return {**_told(row), **{name: getattr(row, name) for name in more}}
