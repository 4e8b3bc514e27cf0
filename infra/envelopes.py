"""Events in and out of their envelopes: bodies are sealed for their owner, large ones go to the artifact store."""

from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel
from uuid6 import uuid7

from infra.artifacts import ArtifactStore
from infra.clock import now
from infra.contracts.events import Consent, Envelope, Source
from infra.sealing import Keyring, SealBroken

Body = TypeVar("Body", bound=BaseModel)
NO_CONSENT = Consent()
REFERENCE = b"\x00artifact:"  # a sealed body that starts so names a file in the artifact store


@dataclass(frozen=True, slots=True)
class Header:
    """What the envelope says in the open."""

    tenant: str
    rater: str | None = None
    session_id: str | None = None
    segment: str | None = None
    source: Source = Source.HUMAN
    consent: Consent = NO_CONSENT
    event_id: UUID | None = None
    occurred_at: datetime | None = None


class Sealer:
    """Wraps and opens event bodies. `inline_limit` is in bytes of body JSON."""

    def __init__(self, keyring: Keyring, artifacts: ArtifactStore, inline_limit: int) -> None:
        self._keyring, self._artifacts, self._inline_limit = keyring, artifacts, inline_limit

    def is_quick(self, header: Header) -> bool:
        """Whether wrapping a small body for this owner touches no disk."""
        return self._keyring.knows(header.tenant, header.rater)

    def wrap(self, body: BaseModel, header: Header) -> Envelope:
        event_id = header.event_id or UUID(int=uuid7().int)
        key_id, sealed = self.seal(body, header.tenant, header.rater, context=event_id)
        if len(sealed) > self._inline_limit:
            path = _path(header.tenant, event_id)
            self._artifacts.write(path, sealed)
            sealed = REFERENCE + path.encode()
        return Envelope(
            event_id=event_id,
            occurred_at=header.occurred_at or now(),
            tenant=header.tenant,
            rater=header.rater,
            session_id=header.session_id,
            segment=header.segment,
            source=header.source,
            consent=header.consent,
            key_id=key_id,
            sealed=b64encode(sealed),  # pydantic's Base64Bytes takes the encoded form
        )

    def forget(self, tenant: str, rater: str, up_to: datetime) -> list[str]:
        """Destroys the keys that this person had by then, now or again, and returns their ids."""
        return self._keyring.destroy(tenant, rater, up_to)

    def open(self, envelope: Envelope, kind: type[Body]) -> Body:
        """Raises KeyDestroyed, KeyUnknown, SealBroken, MissingArtifact, or pydantic's ValidationError."""
        sealed, path = envelope.sealed, stored_at(envelope.sealed)
        if path is not None:
            if path != _path(envelope.tenant, envelope.event_id):
                raise SealBroken("the body is said to lie where none of this event lies")
            sealed = self._artifacts.read(path)
        return self.unseal(envelope.key_id, sealed, kind, context=envelope.event_id)

    def seal(self, body: BaseModel, tenant: str, rater: str | None, *, context: UUID) -> tuple[str, bytes]:
        """What is kept whole in a row, however large: its key's id and the box. Raises KeyringAway."""
        return self._keyring.seal(tenant, rater, body.model_dump_json().encode(), context=context.bytes)

    def unseal(self, key_id: str, sealed: bytes, kind: type[Body], *, context: UUID) -> Body:
        """Raises KeyDestroyed, KeyUnknown, SealBroken, KeyringAway, or pydantic's ValidationError."""
        return kind.model_validate_json(self._keyring.unseal(key_id, sealed, context=context.bytes))


def _path(tenant: str, event_id: UUID) -> str:
    """Where a large body lies in the artifact store."""
    return f"bodies/{tenant}/{event_id.hex}"


def stored_at(sealed: bytes) -> str | None:
    """Where in the artifact store a large body is; None where `sealed` is the body itself."""
    return sealed.removeprefix(REFERENCE).decode(errors="replace") if sealed.startswith(REFERENCE) else None
