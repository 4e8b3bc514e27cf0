"""Cycles: seen, triggered, cancelled."""

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from gateway.admin.operator import Admin, Alias, Body, Id, Limit, Listing, Name, Reasoned, View, Words
from gateway.errors import BadRequest
from gateway.json_route import JsonRoute
from infra.registry import cycles
from infra.registry.cycles import CycleState
from infra.settings import NOT_PER_CYCLE, TrainerSettings

router = APIRouter(route_class=JsonRoute)


class CycleView(View):
    cycle_id: str
    alias: str
    state: CycleState
    trigger: str
    settings: dict[str, Any]
    dataset_id: str | None
    reward_model: str | None
    version: str | None
    progress: dict[str, Any]
    seconds: dict[str, Any]
    reason: str | None
    cancel_requested: bool
    created_at: datetime
    updated_at: datetime


class Overrides:
    """Some of the trainer's settings, in the document too; they are kept as they were sent."""

    def __get_pydantic_json_schema__(self, _core: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = TrainerSettings.model_json_schema()
        for name in NOT_PER_CYCLE:
            del schema["properties"][name]
        return schema


class Trigger(Body):
    alias: Name | None = None
    reason: Words = ""
    settings: Annotated[dict[str, Any], Overrides()] = {}


@router.get("/cycles")
def list_cycles(admin: Admin, alias: Alias = None, limit: Limit = 100) -> Listing[CycleView]:
    with admin.reading() as session:
        rows = cycles.list_cycles(session, admin.tenant, alias=alias, limit=limit)
        return Listing(data=[CycleView.model_validate(row) for row in rows])


@router.get("/cycles/{cycle_id:id}")
def get_cycle(admin: Admin, cycle_id: Id) -> CycleView:
    with admin.reading() as session:
        return CycleView.model_validate(cycles.get(session, cycle_id, admin.tenant))


@router.post("/cycles:trigger", status_code=201)
def trigger(admin: Admin, body: Trigger) -> CycleView:
    """Queues a cycle; 409 while another one of the alias is running. `settings` overrides the trainer's for it."""
    _check(body.settings)
    with admin.transaction() as session:
        row = cycles.trigger(
            session,
            tenant=admin.tenant,
            alias=body.alias or admin.alias,
            actor=admin.name,
            reason=body.reason,
            settings=body.settings,
        )
        return CycleView.model_validate(row)


@router.post("/cycles/{cycle_id:id}:cancel")
def cancel(admin: Admin, cycle_id: Id, body: Reasoned) -> CycleView:
    """Whoever works on it stops within seconds."""
    with admin.transaction() as session:
        row = cycles.request_cancel(session, cycle_id, tenant=admin.tenant, actor=admin.name, reason=body.reason)
        return CycleView.model_validate(row)


def _check(overrides: dict[str, Any]) -> None:
    if misplaced := sorted(NOT_PER_CYCLE & overrides.keys()):
        name = f"settings.{misplaced[0]}"
        raise BadRequest(f"{name}: belongs to the worker and cannot be set for one cycle", param=name)
    try:
        TrainerSettings.model_validate({name: _meant(value) for name, value in overrides.items()}, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = ".".join(("settings", *(str(part) for part in first["loc"])))
        raise BadRequest(f"{name}: {first['msg']}", param=name) from None


def _meant(value: Any) -> Any:
    """JSON has no tuples, and to its schemas 20.0 is a whole number."""
    if isinstance(value, list):
        return tuple(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value
