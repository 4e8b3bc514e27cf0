"""Each request has an id, in every line of its log and in its answer's `x-request-id`: one leads to the other."""

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid6 import uuid7

HEADER = "x-request-id"
NAME = b"x-request-id"
IN_SCOPE = "thumbwheel.request_id"  # for whoever answers outside of this middleware


class RequestId:
    """An answer that names itself keeps its own: a chat's is its response id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request_id = scope[IN_SCOPE] = f"req-{uuid7().hex}"
        structlog.contextvars.bind_contextvars(
            request_id=request_id
        )  # each request is a task with a context of its own

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                if all(name != NAME for name, _ in headers):
                    message["headers"] = [*headers, (NAME, request_id.encode())]
            await send(message)

        return await self._app(scope, receive, named)
