"""Exact checks: what an answer must contain or must not, whatever the votes say. They come from files, or from a live
answer: then body and checks are sealed with the data key of whoever asked, since both may quote that person."""

from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StringConstraints, model_validator
from uuid6 import uuid7

from infra.clock import now
from infra.database.tables import CaseRow
from infra.envelopes import Sealer
from infra.probes import refuses
from infra.registry.cases import CaseState

Part = Annotated[str, StringConstraints(min_length=1, max_length=10_000)]
Parts = Annotated[list[Part], Field(max_length=100)]
NAME = r"[A-Za-z0-9_.-]{1,100}"
KINDS = ("contains_all", "contains_any", "contains_none", "refuses")


class Checks(BaseModel):
    """Pass when the answer contains all of `contains_all`, one of `contains_any` where given, none of
    `contains_none`, and is a refusal or is none, where `refuses` says which."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contains_all: list[str] = []
    contains_any: list[str] = []
    contains_none: list[str] = []
    refuses: bool | None = None

    def passes(self, answer: str) -> bool:
        some = not self.contains_any or any(part in answer for part in self.contains_any)
        clean = not any(part in answer for part in self.contains_none)
        manner = self.refuses is None or refuses(answer) is self.refuses
        return some and clean and manner and all(part in answer for part in self.contains_all)


class Case(Checks):
    """What is asked, and what must be true of the answer."""

    name: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = []


class Wanted(Checks):
    """What an operator asks of the answers to a conversation that was had."""

    contains_all: Parts = Field([], description="Exact strings that must all be in the answer.")
    contains_any: Parts = Field([], description="Exact strings of which one must be in the answer.")
    contains_none: Parts = Field([], description="Exact strings of which none may be in the answer.")
    refuses: StrictBool | None = Field(None, description="Whether the answer must be a refusal, or must be none.")

    @model_validator(mode="after")
    def asks_something(self) -> Self:
        if not _asked(self):
            raise ValueError(f"a case needs a check: {', '.join(KINDS)}")
        return self


def make_row(sealer: Sealer, tenant: str, response_id: str, wanted: Wanted, *, name: str | None) -> CaseRow:
    """As it is wished for: whose words they are is not known yet, so its checks are sealed for the tenant."""
    case_id = uuid7()
    row = CaseRow(tenant=tenant, name=name or f"case-{case_id.hex[-8:]}", case_id=case_id.hex, response_id=response_id)
    row.state, row.checks, row.requested_at = CaseState.REQUESTED, _asked(wanted), now()
    row.key_id, row.sealed = sealer.seal(Checks(**_only(wanted)), tenant, None, context=case_id)
    return row


def open_checks(sealer: Sealer, row: CaseRow) -> Checks:
    """Of one that is wished for; raises KeyDestroyed, KeyUnknown, SealBroken or KeyringAway."""
    return sealer.unseal(row.key_id, row.sealed, Checks, context=UUID(row.case_id))


def open_case(sealer: Sealer, row: CaseRow) -> Case:
    """Of one that is live; raises KeyDestroyed, KeyUnknown, SealBroken or KeyringAway."""
    return sealer.unseal(row.key_id, row.sealed, Case, context=UUID(row.case_id))


def _only(checks: Checks) -> dict[str, Any]:
    return {kind: getattr(checks, kind) for kind in KINDS}


def _asked(checks: Checks) -> dict[str, Any]:
    """What may be told of them in the open: how many there are of each kind."""
    parts = {kind: len(getattr(checks, kind)) for kind in KINDS[:3]}
    counted = {kind: count for kind, count in parts.items() if count}
    return counted if checks.refuses is None else {**counted, "refuses": checks.refuses}
