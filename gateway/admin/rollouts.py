"""Rollouts: wishes for another champion, forwards or back. The serving controller fulfils them."""

from datetime import datetime

from fastapi import APIRouter

from gateway.admin.operator import Admin, Alias, Id, Limit, Listing, Name, Reasoned, View, champion
from gateway.errors import Conflict
from gateway.json_route import JsonRoute
from infra.registry import adapters, rollouts
from infra.registry.adapters import AdapterState
from infra.registry.rollouts import RolloutState

router = APIRouter(route_class=JsonRoute)

NEEDS_A_PERSON = frozenset({AdapterState.BLOCKED, AdapterState.AWAITING_PERSON})


class RolloutView(View):
    rollout_id: str
    alias: str
    kind: str
    version: str
    from_version: str
    state: RolloutState
    actor: str
    reason: str
    error: str | None
    requested_at: datetime
    flipped_at: datetime | None
    finished_at: datetime | None


class Wish(Reasoned):
    version: Name


class Rollback(Reasoned):
    alias: Name | None = None
    version: Name | None = None


@router.get("/rollouts")
def list_rollouts(admin: Admin, alias: Alias = None, limit: Limit = 100) -> Listing[RolloutView]:
    with admin.reading() as session:
        rows = rollouts.list_rollouts(session, admin.tenant, alias=alias, limit=limit)
        return Listing(data=[RolloutView.model_validate(row) for row in rows])


@router.get("/rollouts/{rollout_id:id}")
def get_rollout(admin: Admin, rollout_id: Id) -> RolloutView:
    with admin.reading() as session:
        return RolloutView.model_validate(rollouts.get(session, rollout_id, admin.tenant))


@router.post("/rollouts:start", status_code=201)
def start(admin: Admin, body: Wish) -> RolloutView:
    """Rolls out what passed its gates, or has served before."""
    return _promote(admin, body, even_blocked=False)


@router.post("/rollouts:promote", status_code=201)
def promote(admin: Admin, body: Wish) -> RolloutView:
    """A person's yes, also to what its gates blocked or left to a person."""
    return _promote(admin, body, even_blocked=True)


@router.post("/rollouts:rollback", status_code=201)
def rollback(admin: Admin, body: Rollback) -> RolloutView:
    """Back to `version`, or to what served before."""
    alias = body.alias or admin.alias
    with admin.transaction() as session:
        row = rollouts.request_rollback(
            session,
            tenant=admin.tenant,
            alias=alias,
            version=body.version or rollouts.previous_version(session, alias),
            actor=admin.name,
            reason=body.reason,
            champion=champion(session, alias),
        )
        return RolloutView.model_validate(row)


@router.post("/rollouts/{rollout_id:id}:abort")
def abort(admin: Admin, rollout_id: Id, body: Reasoned) -> RolloutView:
    """Ends it before its flip; 409 afterwards, when only a rollback helps."""
    with admin.transaction() as session:
        row = rollouts.request_abort(session, rollout_id, tenant=admin.tenant, actor=admin.name, reason=body.reason)
        return RolloutView.model_validate(row)


def _promote(admin: Admin, body: Wish, *, even_blocked: bool) -> RolloutView:
    with admin.transaction() as session:
        adapter = adapters.get(session, body.version, admin.tenant)
        if adapter.state in NEEDS_A_PERSON and not even_blocked:
            raise Conflict(
                f"version {body.version} is {adapter.state}: promote it, with a reason, to overrule its gates"
            )
        row = rollouts.request_promotion(
            session,
            version=body.version,
            actor=admin.name,
            reason=body.reason,
            tenant=admin.tenant,
            champion=champion(session, adapter.alias),
        )
        return RolloutView.model_validate(row)
