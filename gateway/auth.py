"""Who is calling: an API key with its tenant and scopes, or an answer's feedback token."""

from starlette.requests import Request

from gateway.errors import Forbidden, Unauthorized
from gateway.watch import Watch
from infra.identity import BadToken, FeedbackGrant, Identity, key_hash
from infra.registry.keys import Principal, Scope

TOKEN_HEADER = "x-thumbwheel-feedback-token"


class Auth:
    """API keys come from the watch's cache, so that a request waits for no database."""

    def __init__(self, watch: Watch, identity: Identity) -> None:
        self._watch, self._identity = watch, identity

    async def principal(self, request: Request, scope: Scope) -> Principal:
        """Raises Unauthorized without a live key, Forbidden where the key's scopes do not suffice."""
        kind, _, key = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not key:
            raise Unauthorized("no API key was given: send `Authorization: Bearer KEY`")
        found = await self._watch.principal(key_hash(key.strip()))
        if found is None:
            raise Unauthorized("the API key is unknown or was revoked")
        if scope not in found.scopes:
            raise Forbidden(f"this API key lacks the scope `{scope}`")
        return found

    def grants(self, request: Request) -> list[FeedbackGrant]:
        """What the feedback tokens of this request allow; several, with commas, compare several answers.

        Raises Unauthorized where any of them is forged or expired.
        """
        tokens = [token.strip() for token in request.headers.get(TOKEN_HEADER, "").split(",")]
        try:
            return [self._identity.verify(token) for token in tokens if token]
        except BadToken:
            raise Unauthorized("the feedback token is forged or has expired", code="invalid_feedback_token") from None
