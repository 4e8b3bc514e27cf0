"""Who administers: a principal with the admin scope, with the registry at hand. All rows are its tenant's."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from fastapi import Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, StringConstraints
from sqlalchemy.orm import Session
from starlette.convertors import StringConvertor, register_url_convertor

from gateway.errors import Conflict
from gateway.services import services
from infra.contracts.rollouts import Step
from infra.database.engine import Database
from infra.registry import fleet
from infra.registry.keys import Scope

Item = TypeVar("Item")


class IdConvertor(StringConvertor):
    """`{name:id}` in a path. The colon begins an action: reading `NAME:cancel` is a 405, not a search for that name."""

    regex = "[^/:]+"


register_url_convertor("id", IdConvertor())  # the framework's table of path patterns, read when a route is declared

Id = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}$")]
Words = Annotated[str, StringConstraints(max_length=2000, pattern=r"^[^\x00]*$")]  # PostgreSQL's text holds no NUL
Alias = Annotated[Name | None, Query(description="Only this alias.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="Most that are given, newest first.")]


@dataclass(frozen=True, slots=True)
class Operator:
    """`name` is the key's: the actor in the audit. `steps` are what a rollout goes by."""

    tenant: str
    name: str
    alias: str
    database: Database
    steps: tuple[Step, ...]

    def transaction(self) -> AbstractContextManager[Session]:
        return self.database.transaction()

    def reading(self) -> AbstractContextManager[Session]:
        return self.database.reading()


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Reasoned(Body):
    """Every action says why."""

    reason: Annotated[Words, StringConstraints(min_length=1)]


class View(BaseModel):
    """What is shown of a registry row."""

    model_config = ConfigDict(from_attributes=True)


class Listing(BaseModel, Generic[Item]):
    data: list[Item]


async def _operator(request: Request) -> Operator:
    room = services(request)
    principal = await room.auth.principal(request, Scope.ADMIN)
    return Operator(principal.tenant, principal.name, room.settings.alias, room.database, room.rollout_steps)


Admin = Annotated[Operator, Depends(_operator)]


def champion(session: Session, alias: str) -> str:
    """What the routing table says now; raises Conflict where the alias is not served."""
    table = fleet.routing_table(session)
    if table is None or alias not in table.aliases:
        raise Conflict(f"{alias} is not served yet")
    return table.aliases[alias].champion
