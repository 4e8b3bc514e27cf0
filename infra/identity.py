"""Who and what, without looking anything up: response handles, rater hashes, feedback tokens, keys.

All are keyed by one root secret. A response handle carries a MAC of its tenant, so that any gateway can tell a handle
that was never minted, or that belongs to another tenant, before its inference event has reached the database.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import jwt
from uuid6 import uuid7

from infra.clock import now

RESPONSE_ID = re.compile(r"chatcmpl-([0-9a-f]{32})([0-9a-f]{16})")
TOKEN_AUDIENCE = "thumbwheel-feedback"


class BadToken(ValueError):
    """The feedback token is forged, expired, or not a token."""


@dataclass(frozen=True, slots=True)
class FeedbackGrant:
    """What a feedback token allows: votes of this rater (None: of nobody named) on this response."""

    tenant: str
    response_id: str
    rater: str | None


class Identity:
    """Everything derived from the root secret; each use has a key of its own."""

    def __init__(self, secret: bytes) -> None:
        self._ids, self._raters, self._tokens, self._routes, self._caches = (
            hmac.digest(secret, purpose, "sha256")
            for purpose in (b"response-id", b"rater", b"token", b"route", b"prefix-cache")
        )

    def new_response_id(self, tenant: str) -> str:
        unique = uuid7().hex
        return f"chatcmpl-{unique}{self._mac(tenant, unique)}"

    def owns(self, tenant: str, response_id: str) -> bool:
        """Whether this handle was minted for this tenant."""
        if (match := RESPONSE_ID.fullmatch(response_id)) is None:
            return False
        return hmac.compare_digest(match[2], self._mac(tenant, match[1]))

    def rater(self, tenant: str, user: str) -> str:
        """The only form in which a rater is known inside."""
        return hmac.digest(self._raters, f"{tenant}\0{user}".encode(), "sha256").hex()[:32]

    def fraction(self, salt: str, unit: str) -> float:
        """A number in [0, 1) that is the same for the same unit and salt: sticky assignment."""
        digest = hmac.digest(self._routes, f"{salt}\0{unit}".encode(), "sha256")
        return int.from_bytes(digest[:8], "big") / 2**64

    def cache_salt(self, tenant: str) -> str:
        """Keeps one tenant from finding out by timing which prompts another one sent."""
        return hmac.digest(self._caches, tenant.encode(), "sha256").hex()

    def sign(self, grant: FeedbackGrant, *, ttl_s: float, at: datetime | None = None) -> str:
        issued = at or now()
        claims = {
            "aud": TOKEN_AUDIENCE,
            "exp": int((issued + timedelta(seconds=ttl_s)).timestamp()),
            "t": grant.tenant,
            "r": grant.response_id,
            "u": grant.rater,
        }
        return jwt.encode(claims, self._tokens, algorithm="HS256")

    def verify(self, token: str) -> FeedbackGrant:
        """Raises BadToken."""
        try:
            claims = jwt.decode(token, self._tokens, algorithms=["HS256"], audience=TOKEN_AUDIENCE)
            return FeedbackGrant(claims["t"], claims["r"], claims["u"])
        except (jwt.InvalidTokenError, KeyError) as error:
            raise BadToken(str(error)) from None

    def _mac(self, tenant: str, unique: str) -> str:
        return hmac.digest(self._ids, f"{tenant}\0{unique}".encode(), "sha256").hex()[:16]


def new_key() -> str:
    """An API key with 256 bits of chance."""
    return f"tw-{secrets.token_urlsafe(32)}"


def key_hash(key: str) -> str:
    """What the database keeps of an API key; a plain hash is enough for a key of 256 random bits."""
    return hashlib.sha256(key.encode()).hexdigest()
