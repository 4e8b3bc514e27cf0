"""The OpenAPI document: every status that can leave, and the one request body that the framework does not parse."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.auth import TOKEN_HEADER
from gateway.chat_request import ChatRequest
from gateway.errors import ErrorBody

Responses = dict[int | str, dict[str, Any]]
REFERENCE = "#/components/schemas/{model}"
BEARER = {"type": "http", "scheme": "bearer", "description": "An API key."}
TOKEN = {"type": "apiKey", "in": "header", "name": TOKEN_HEADER, "description": "What came with the answer."}
DESCRIPTIONS = {
    400: "The request is wrong; `param` names the field.",
    401: "No key, or one that is unknown, revoked, forged or expired.",
    403: "The key or token does not reach this far.",
    404: "There is no such thing for this caller.",
    409: "The state of things does not allow it.",
    413: "The body is larger than the limit.",
    500: "Our mistake.",
    502: "The engine failed.",
    503: "Not at the moment; `Retry-After` says when to try again.",
    504: "The engine was silent for too long.",
}


def errors(*statuses: int) -> Responses:
    """Documents these statuses in OpenAI's error shape.

    By reference: given as a model, FastAPI would build a validator of it for every route and status, which takes a
    quarter of a second of each start.
    """
    content = {"application/json": {"schema": {"$ref": REFERENCE.format(model="ErrorBody")}}}
    return {status: {"description": DESCRIPTIONS[status], "content": content} for status in statuses}


VOTE_RESPONSES = errors(400, 401, 403, 404, 413, 500, 503)
ADMIN_RESPONSES = errors(400, 401, 403, 404, 409, 413, 500, 503)
MODEL_RESPONSES = errors(401, 403, 404, 500, 503)
RATER_RESPONSES = errors(400, 401, 403, 404, 413, 500, 503)
EXPORT_RESPONSES: Responses = {
    200: {"description": "One JSON object a line, each with its `kind`.", "content": {"application/x-ndjson": {}}},
    202: {
        "description": "It is being made; `Retry-After` says when to ask again.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
    **RATER_RESPONSES,
}
CHECK_RESPONSES: Responses = {
    200: {
        "description": "The question.",
        "headers": {
            TOKEN_HEADER: {"schema": {"type": "string"}, "description": "Both tokens: a page compares with them."}
        },
    },
    **errors(400, 401, 403, 404, 500, 503),
}
CHAT_RESPONSES: Responses = {
    200: {
        "description": "The answer, whole or as server-sent events.",
        "content": {"application/json": {"schema": {"type": "object"}}, "text/event-stream": {}},
        "headers": {
            name: {"schema": {"type": "string"}, "description": text}
            for name, text in (
                (TOKEN_HEADER, "Lets a browser vote on this answer."),
                ("x-thumbwheel-version", "The version that answered; of a pair the champion's."),
                ("x-thumbwheel-arm", "champion, challenger, pair, pinned or opted_out."),
            )
        },
    },
    **errors(400, 401, 403, 404, 413, 500, 502, 503, 504),
}
CHAT_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": REFERENCE.format(model="ChatRequest")}}},
    }
}


def install(app: FastAPI) -> None:
    """Builds the document when it is first asked for."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = build(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way


def build(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = document["components"]
    components["schemas"].update(_schemas(ChatRequest, ErrorBody))
    components["securitySchemes"] = {"key": BEARER, "token": TOKEN}
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)  # bad input is a 400 here, in OpenAI's shape
            operation["security"] = [{"key": []}, *([{"token": []}] if operation.get("tags") == ["votes"] else [])]
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    return document


def _schemas(*models: type[BaseModel]) -> dict[str, Any]:
    _, found = models_json_schema([(model, "validation") for model in models], ref_template=REFERENCE)
    return dict(found["$defs"])
