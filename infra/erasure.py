"""The event by which a person is erased: made the same way whether a client asks for it or an operator."""

from dataclasses import dataclass
from uuid import UUID

from uuid6 import uuid7

from infra.clock import now
from infra.contracts.events import Erasure
from infra.envelopes import Header
from infra.identity import Identity


@dataclass(frozen=True, slots=True)
class Wish:
    """`handle` is what it is followed by. The body is sealed with the tenant's own key: the person's is to go."""

    handle: str
    body: Erasure
    header: Header


def make_wish(identity: Identity, tenant: str, user: str, actor: str) -> Wish:
    """Everything of this end user up to now."""
    erasure_id, up_to = UUID(int=uuid7().int), now()
    body = Erasure(erasure_id=erasure_id, rater=identity.rater(tenant, user), up_to=up_to, actor=actor)
    header = Header(tenant=tenant, event_id=erasure_id, occurred_at=up_to)
    return Wish(identity.erasure_handle(tenant, erasure_id), body, header)
