"""`GET /v1/models`: the names a client may ask for."""

from collections.abc import Iterator
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from gateway.documents import MODEL_RESPONSES
from gateway.errors import NotFound, Unavailable
from gateway.services import Services, services
from infra.contracts.routing import BASE_VERSION, AliasRoute, RoutingTable, is_base
from infra.registry.keys import Scope

router = APIRouter(tags=["models"])


class Model(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "thumbwheel"
    root: str = Field(description="What it stands on: the base model's revision.")
    parent: str | None = Field(description="An alias: the version it resolves to; an adapter: the base.")
    max_model_len: int | None = Field(None, description="Longest prompt plus answer in tokens.")


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


@router.get("/v1/models", responses=MODEL_RESPONSES)
async def list_models(request: Request) -> ModelList:
    """Each alias and the versions that it routes now; with an admin key also those that are only kept loaded."""
    return ModelList(data=await _visible(request))


@router.get("/v1/models/{model}", responses=MODEL_RESPONSES)
async def get_model(request: Request, model: str) -> Model:
    for found in await _visible(request):
        if found.id == model:
            return found
    raise NotFound(f"The model `{model}` does not exist.", param="model", code="model_not_found")


async def _visible(request: Request) -> list[Model]:
    room: Services = services(request)
    principal = await room.auth.principal(request, Scope.CHAT)
    if room.router.table is None:
        raise Unavailable("nothing is served yet: the routing table has not been published")
    return list(models(room.router.table, admin=Scope.ADMIN in principal.scopes))


def models(table: RoutingTable, *, admin: bool) -> Iterator[Model]:
    """Aliases first; each version once."""
    created = int(table.issued_at.timestamp())
    longest = max((replica.max_model_len for replica in table.replicas), default=0) or None
    seen: set[str] = set()
    for route in table.aliases.values():
        champion = route.champion
        yield Model(id=route.alias, created=created, root=route.base_revision, parent=champion, max_model_len=longest)
    for route in table.aliases.values():
        for version in _versions(route, admin=admin):
            if version not in seen:
                seen.add(version)
                parent = None if is_base(version) else BASE_VERSION
                root = table.base_of(version) or route.base_revision
                yield Model(id=version, created=created, root=root, parent=parent, max_model_len=longest)


def _versions(route: AliasRoute, *, admin: bool) -> list[str]:
    routed = [entry.version for entry in route.versions]
    return [*routed, *route.previous, BASE_VERSION] if admin else routed
