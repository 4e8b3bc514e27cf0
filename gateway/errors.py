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


class EngineTimeout(GatewayError):
    status, type, default_code = 504, "timeout_error", "engine_timeout"


REGISTRY_ERRORS: dict[type[registry.RegistryError], type[GatewayError]] = {
    registry.NotFound: NotFound,
    registry.Conflict: Conflict,
    registry.IllegalTransition: Conflict,
}
HTTP_ERRORS: dict[int, type[GatewayError]] = {kind.status: kind for kind in (BadRequest, NotFound, TooLarge)}


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


async def _handle(_request: Request, error: Exception) -> JSONResponse:
    translated = translate(error)
    if translated.status == 500:
        log.error("request_failed", exc_info=error)
    return error_response(translated)


async def _handle_http(_request: Request, error: Exception) -> JSONResponse:
    """What the framework itself refuses: unknown paths, wrong methods, unreadable bodies."""
    assert isinstance(error, HTTPException)
    kind = "invalid_request_error" if error.status_code < 500 else "server_error"
    body = ErrorBody(error=ErrorDetail(message=str(error.detail), type=kind))
    return JSONResponse(body.model_dump(), status_code=error.status_code, headers=error.headers)


def _invalid(error: RequestValidationError) -> BadRequest:
    """Names the first field that is wrong."""
    first = error.errors()[0]
    where = [str(part) for part in first["loc"] if part != "body"]
    name = ".".join(where) or None
    return BadRequest(f"{name}: {first['msg']}" if name else str(first["msg"]), param=name, code=first["type"])
