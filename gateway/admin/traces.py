"""Traces: where an answer came from, how far an event went. The feedback process finds it out; one asks again."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field, StringConstraints, model_validator

from gateway.admin.operator import Admin, Body, Id, View
from gateway.json_route import JsonRoute
from infra.contracts.traces import PAGE, PAGE_MOST, EventTrace, Question, ResponseTrace
from infra.registry import traces
from infra.registry.traces import TraceState

router = APIRouter(route_class=JsonRoute)

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]


class TraceBody(Body):
    """One of the two ids. `events` asks for a page of the events that made the versions."""

    response_id: Name | None = None
    event_id: Name | None = None
    events: bool = False
    offset: Annotated[int, Field(ge=0, le=2**31)] = 0
    limit: Annotated[int, Field(ge=1, le=PAGE_MOST)] = PAGE

    @model_validator(mode="after")
    def asks_one_thing(self) -> "TraceBody":
        if (self.response_id is None) is (self.event_id is None):
            raise ValueError("name a response_id or an event_id, and not both")
        return self


class TraceView(View):
    """`answer` is there once the state is `done`; it is kept for an hour from the asking on."""

    trace_id: str
    state: TraceState
    answer: ResponseTrace | EventTrace | None = Field(discriminator="kind")
    reason: str | None
    requested_at: datetime
    finished_at: datetime | None


@router.post("/traces", status_code=201)
def ask(admin: Admin, body: TraceBody) -> TraceView:
    """Asks; the answer is under the trace's id, within about a second."""
    with admin.transaction() as session:
        row = traces.request(session, admin.tenant, Question.model_validate(body.model_dump()))
        return TraceView.model_validate(row)


@router.get("/traces/{trace_id:id}")
def get_trace(admin: Admin, trace_id: Id) -> TraceView:
    with admin.reading() as session:
        return TraceView.model_validate(traces.get(session, admin.tenant, trace_id))
