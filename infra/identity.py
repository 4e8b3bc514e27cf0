"""Who and what, without looking anything up: response handles, rater hashes, feedback tokens, keys.

All are keyed by one root secret. A handle (of a response, of an erasure) carries a MAC of its tenant: any gateway can
tell one that was never minted, or that is another tenant's, before its event has reached the database.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import jwt
from uuid6 import uuid7

from infra.clock import now

RESPONSE_ID = re.compile(r"chatcmpl-([0-9a-f]{32})([0-9a-f]{16})")
ERASURE_ID = re.compile(r"erasure-([0-9a-f]{32})([0-9a-f]{16})")
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
        self._ids, self._raters, self._tokens, self._routes, self._caches, self._erasures = (
            hmac.digest(secret, purpose, "sha256")
            for purpose in (b"response-id", b"rater", b"token", b"route", b"prefix-cache", b"erasure-id")
        )

    def new_response_id(self, tenant: str) -> str:
        unique = uuid7().hex
        return f"chatcmpl-{unique}{_mac(self._ids, tenant, unique)}"

    def response_id_of(self, tenant: str, name: str) -> str:
        """The same handle for the same name, for an answer that is made more than once."""
        unique = hmac.digest(self._ids, f"{tenant}\0{name}".encode(), "sha256").hex()[:32]
        return f"chatcmpl-{unique}{_mac(self._ids, tenant, unique)}"

    def owns(self, tenant: str, response_id: str) -> bool:
        """Whether this handle was minted for this tenant."""
        if (match := RESPONSE_ID.fullmatch(response_id)) is None:
            return False
        return hmac.compare_digest(match[2], _mac(self._ids, tenant, match[1]))

    def erasure_handle(self, tenant: str, erasure_id: UUID) -> str:
        """What a client follows an erasure by."""
        return f"erasure-{erasure_id.hex}{_mac(self._erasures, tenant, erasure_id.hex)}"

    def erasure_id(self, tenant: str, handle: str) -> UUID | None:
        """The id in a handle; None where the handle was not made for this tenant."""
        match = ERASURE_ID.fullmatch(handle)
        if match is None or not hmac.compare_digest(match[2], _mac(self._erasures, tenant, match[1])):
            return None
        return UUID(match[1])

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


def _mac(key: bytes, tenant: str, unique: str) -> str:
    return hmac.digest(key, f"{tenant}\0{unique}".encode(), "sha256").hex()[:16]


def new_key() -> str:
    """An API key with 256 bits of chance."""
    return f"tw-{secrets.token_urlsafe(32)}"


def key_hash(key: str) -> str:
    """What the database keeps of an API key; a plain hash is enough for a key of 256 random bits."""
    return hashlib.sha256(key.encode()).hexdigest()
