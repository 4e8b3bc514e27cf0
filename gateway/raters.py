"""What a person may ask for through the client: to be forgotten, and to get everything that is known of them."""

import asyncio
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, BinaryIO, Literal

import structlog
from fastapi import APIRouter, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.background import BackgroundTask
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.responses import JSONResponse, Response, StreamingResponse

from gateway.documents import EXPORT_RESPONSES, RATER_RESPONSES
from gateway.errors import NotFound, Unavailable
from gateway.services import Services, services
from gateway.votes import Stored
from infra.artifacts import MissingArtifact
from infra.contracts.events import ERASURE_TOPIC
from infra.database.tables import ErasureRow, ExportRow
from infra.erasure import make_wish
from infra.registry import erasures, exports
from infra.registry.erasures import ErasureState
from infra.registry.exports import ExportState
from infra.registry.keys import Principal, Scope

log = structlog.get_logger()


class RaterConvertor(StringConvertor):
    """`{name:rater}` in a path: a name may hold slashes, since the server decodes them before the route is found."""

    regex = ".+(?<!/export)"


register_url_convertor("rater", RaterConvertor())  # read when a route is declared

RaterId = Annotated[
    str, Path(min_length=1, max_length=512, description="The end user, as `user` and `rater` name them.")
]
POLL_S = 0.1
ASK_AGAIN_S = 2
PIECE_BYTES = 256 * 1024

router = APIRouter(tags=["raters"])


class ErasureReceipt(BaseModel):
    erasure_id: str = Field(description="What to follow it by.")
    state: Literal[ErasureState.ACCEPTED] = ErasureState.ACCEPTED
    stored: Stored = Field(description="Where it is durable: the event log, or this gateway's disk.")


class ErasureView(BaseModel):
    """`report` says what was erased where, and which datasets and versions it touched."""

    model_config = ConfigDict(from_attributes=True)

    erasure_id: str
    state: ErasureState = ErasureState.ACCEPTED
    up_to: datetime | None = None
    requested_at: datetime | None = None
    finished_at: datetime | None = None
    report: dict[str, Any] = {}


@router.delete("/v1/raters/{rater:rater}", status_code=202, responses=RATER_RESPONSES)
async def erase(request: Request, rater: RaterId) -> ErasureReceipt:
    """Everything of this end user up to now. 202 means that it is durable and that their data key is destroyed."""
    room, principal = await _entered(request)
    wish = make_wish(room.identity, principal.tenant, rater, principal.name)
    _, stored = await room.ballots.keep(ERASURE_TOPIC, wish.body.rater, wish.body, wish.header)
    try:
        await asyncio.to_thread(room.sealer.forget, principal.tenant, wish.body.rater, wish.body.up_to)
    except (OSError, sqlite3.Error) as error:  # whoever handles the event does it again
        log.error("key_not_destroyed", erasure_id=wish.handle, reason=str(error))
    log.info("erasure_accepted", erasure_id=wish.handle, stored=stored)
    return ErasureReceipt(erasure_id=wish.handle, stored=stored)


@router.get("/v1/erasures/{erasure_id}", responses=RATER_RESPONSES)
async def follow(request: Request, erasure_id: str) -> ErasureView:
    """How far an erasure has got. One whose event has not come through yet is `accepted`."""
    room, principal = await _entered(request)
    known = room.identity.erasure_id(principal.tenant, erasure_id)
    if known is None:
        raise NotFound("there is no such erasure", param="erasure_id")

    def find() -> ErasureRow | None:
        with room.database.reading() as session:
            return erasures.find(session, principal.tenant, known)

    row = await asyncio.to_thread(find)
    view = ErasureView.model_validate(row) if row else ErasureView(erasure_id=erasure_id)
    return view.model_copy(update={"erasure_id": erasure_id})


@router.get("/v1/raters/{rater:rater}/export", response_model=None, responses=EXPORT_RESPONSES)
async def export(request: Request, rater: RaterId) -> Response:
    """Every event and every derived row of this end user, one JSON object a line.

    It is made on demand. Where that takes longer than `gateway.export_wait_s` the answer is 202: ask again.
    """
    room, principal = await _entered(request)
    wish = _Wish(room, principal, room.identity.rater(principal.tenant, rater))
    row = await wish.fulfilled()
    if row.path is None:
        return JSONResponse({"state": row.state}, status_code=202, headers={"Retry-After": str(ASK_AGAIN_S)})
    try:
        file = await asyncio.to_thread(room.artifacts.open, row.path)
    except MissingArtifact:  # somebody else has fetched it
        await asyncio.to_thread(wish.fetched, row)
        raise Unavailable("the export has just been removed: ask for it again") from None
    done = BackgroundTask(asyncio.to_thread, wish.fetched, row)
    return StreamingResponse(_pieces(file), media_type="application/x-ndjson", background=done)


@dataclass(frozen=True, slots=True)
class _Wish:
    """One person's export, made by the feedback process."""

    room: Services
    principal: Principal
    rater: str

    async def fulfilled(self) -> ExportRow:
        """The wish's row, ready, or as it stands when the time is up."""
        row = await asyncio.to_thread(self._ask)
        deadline = asyncio.get_running_loop().time() + self.room.settings.export_wait_s
        while row.state == ExportState.REQUESTED and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(POLL_S)
            row = await asyncio.to_thread(self._look, row.export_id)
        return row

    def _ask(self) -> ExportRow:
        with self.room.database.transaction() as session:
            return exports.request(session, self.principal.tenant, self.rater, self.principal.name)

    def _look(self, export_id: str) -> ExportRow:
        with self.room.database.reading() as session:
            return exports.get(session, self.principal.tenant, export_id)

    def fetched(self, row: ExportRow) -> None:
        if row.path:
            self.room.artifacts.delete([row.path])
        with self.room.database.transaction() as session:
            exports.move(session, row.tenant, row.export_id, ExportState.GONE)


async def _entered(request: Request) -> tuple[Services, Principal]:
    room = services(request)
    return room, await room.auth.principal(request, Scope.RATERS)


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE_BYTES):
            yield piece
