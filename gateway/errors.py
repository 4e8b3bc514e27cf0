"""What can go wrong on the way to an answer, each with the status and the body that OpenAI's SDKs expect."""

from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Match

from gateway.request_id import HEADER, IN_SCOPE
from infra.registry import errors as registry

log = structlog.get_logger()


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(BaseModel):
    """OpenAI's error shape: `error.type` and the status choose the SDK's exception."""

    error: ErrorDetail = Field(description="What went wrong.")


class GatewayError(Exception):
    """Root of the gateway's errors; each subclass is one status."""

    status = 500
    type = "server_error"
    default_code: str | None = None
    headers: dict[str, str] = {}

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.detail = ErrorDetail(message=message, type=self.type, param=param, code=code or self.default_code)


class BadRequest(GatewayError):
    status, type = 400, "invalid_request_error"


class Unauthorized(GatewayError):
    status, type, default_code = 401, "invalid_request_error", "invalid_api_key"
    headers = {"WWW-Authenticate": "Bearer"}


class Forbidden(GatewayError):
    status, type, default_code = 403, "permission_error", "not_allowed"


class NotFound(GatewayError):
    status, type, default_code = 404, "invalid_request_error", "not_found"


class Conflict(GatewayError):
    status, type, default_code = 409, "conflict_error", "conflict"


class TooLarge(GatewayError):
    status, type, default_code = 413, "invalid_request_error", "request_too_large"


class EngineFailed(GatewayError):
    """The engine answered, but with trouble of its own."""

    status, default_code = 502, "engine_failed"


class Unavailable(GatewayError):
    """Worth trying again soon: no engine, or nowhere to keep what was sent."""

    status, default_code = 503, "unavailable"
    headers = {"Retry-After": "1"}


class EngineBroke(EngineFailed):
    """The connection broke after the answer had begun to come. Asking again is safe while a client has seen nothing."""


class EngineAway(Unavailable):
    """No connection, or one that broke before the answer began. Asking again is safe: an answer has no side effects."""

    default_code = "engine_unavailable"


class EngineTimeout(GatewayError):
    status, type, default_code = 504, "timeout_error", "engine_timeout"


REGISTRY_ERRORS: dict[type[registry.RegistryError], type[GatewayError]] = {
    registry.NotFound: NotFound,
    registry.Conflict: Conflict,
    registry.IllegalTransition: Conflict,
}
RULE = "Value error, "  # pydantic's words before those of a rule of our own


def error_response(error: GatewayError) -> JSONResponse:
    return JSONResponse(error_body(error), status_code=error.status, headers=dict(error.headers))


def error_body(error: GatewayError) -> dict[str, Any]:
    return ErrorBody(error=error.detail).model_dump()


def translate(error: Exception) -> GatewayError:
    """Anything that escaped a handler, as one of ours; what nobody foresaw is a 500 without details."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, registry.RegistryError):
        return REGISTRY_ERRORS.get(type(error), GatewayError)(str(error))
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, OperationalError):
        return Unavailable("the registry cannot be reached", code="registry_unavailable")
    return GatewayError("something went wrong on our side", code="internal_error")


def install(app: FastAPI) -> None:
    """One handler renders everything, so that no status leaves in another shape."""
    for kind in (GatewayError, registry.RegistryError, RequestValidationError, OperationalError, Exception):
        app.add_exception_handler(kind, _handle)
    app.add_exception_handler(HTTPException, _handle_http)


async def _handle(request: Request, error: Exception) -> JSONResponse:
    translated = translate(error)
    response = error_response(translated)
    if translated.status == 500:
        log.error("request_failed", exc_info=error)
        response.headers[HEADER] = request.scope[IN_SCOPE]  # the framework answers this one outside of all middleware
    return response


async def _handle_http(request: Request, error: Exception) -> JSONResponse:
    """What the framework itself refuses: unknown paths, wrong methods, unreadable bodies."""
    assert isinstance(error, HTTPException)
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    body = ErrorBody(error=ErrorDetail(message=str(error.detail), type=kind))
    headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
    return JSONResponse(body.model_dump(), status_code=error.status_code, headers=headers)


def _allowed(request: Request) -> str:
    """Of all routes of this path: the framework names the methods of the first one only."""
    near = [route for route in request.app.routes if route.matches(request.scope)[0] is Match.PARTIAL]
    return ", ".join(sorted({method for route in near for method in route.methods}))


def _invalid(error: RequestValidationError) -> BadRequest:
    """Names the first field that is wrong."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return BadRequest(f"the body is not JSON: {first['ctx']['error']}", code="invalid_json")
    message = first["msg"].removeprefix(RULE)
    where = [str(part) for part in first["loc"] if part != "body"]
    name = ".".join(where) or None
    return BadRequest(f"{name}: {message}" if name else message, param=name, code=first["type"])
