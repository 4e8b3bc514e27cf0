"""What is done to every request before any handler sees it: bodies are bounded, votes may come from browsers."""

from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.auth import TOKEN_HEADER
from gateway.errors import TooLarge, error_response

VOTE_PATHS = frozenset({"/v1/feedback", "/v1/comparisons", "/v1/rankings"})
VOTE_HEADERS = ("authorization", "content-type", "idempotency-key", TOKEN_HEADER)


class BodyTooLarge(HTTPException):
    """Raised while a body without a stated length is read; the framework passes on this class only."""


class BodyLimit:
    """Refuses larger bodies with 413, at their head where the length is stated."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app, self._max_bytes = app, max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._states_too_much(scope):
            await error_response(self._error())(scope, receive, send)
        else:
            await self._app(scope, self._counting(receive) if scope["type"] == "http" else receive, send)

    def _states_too_much(self, scope: Scope) -> bool:
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        return stated.isdigit() and int(stated) > self._max_bytes

    def _counting(self, receive: Receive) -> Receive:
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max_bytes:
                raise BodyTooLarge(TooLarge.status, str(self._error()))
            return message

        return counted

    def _error(self) -> TooLarge:
        return TooLarge(f"the body is larger than {self._max_bytes} bytes")


class VoteCors:
    """Lets pages of the given origins vote. Nothing else may be called from a page: keys do not belong there."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._with_cors = CORSMiddleware(
            app, allow_origins=origins, allow_methods=("POST",), allow_headers=VOTE_HEADERS
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        votes = scope["type"] == "http" and scope["path"] in VOTE_PATHS
        await (self._with_cors if votes else self._app)(scope, receive, send)
