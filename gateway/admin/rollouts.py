"""Rollouts: wishes for another champion, forwards or back. The serving controller fulfils them."""

from collections.abc import Callable
from datetime import datetime

from fastapi import APIRouter
from pydantic import Field, StrictBool
from sqlalchemy.orm import Session

from gateway.admin.operator import Admin, Alias, Id, Limit, Listing, Name, Reasoned, View, champion
from gateway.json_route import JsonRoute
from infra.contracts.rollouts import Look, Step
from infra.database.tables import RolloutRow
from infra.registry import rollouts, wishes
from infra.registry.rollouts import RolloutState
from infra.registry.wishes import Wish

router = APIRouter(route_class=JsonRoute)


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
    steps: list[Step]
    step: int
    step_began_at: datetime | None
    look: Look | None
    requested_at: datetime
    flipped_at: datetime | None
    finished_at: datetime | None


class Wished(Reasoned):
    version: Name
    alias: Name | None = Field(None, description="Only for `base-REVISION`, which any alias may have.")
    force: StrictBool = Field(False, description="Also a version that was rolled back, or blocked by its gates.")


class Rollback(Reasoned):
    alias: Name | None = None
    version: Name | None = None
    force: StrictBool = Field(False, description="Also to a version that was rolled back itself.")


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
def start(admin: Admin, body: Wished) -> RolloutView:
    """Lets a version earn its traffic by the steps of `serving.rollout_steps`; a blocked one by force alone."""
    with admin.transaction() as session:
        return RolloutView.model_validate(wishes.start(session, _wish(admin, session, body), admin.steps))


@router.post("/rollouts:promote", status_code=201)
def promote(admin: Admin, body: Wished) -> RolloutView:
    """A person's yes, past all steps, also to what its gates blocked or left to a person."""
    with admin.transaction() as session:
        return RolloutView.model_validate(wishes.promote(session, _wish(admin, session, body)))


@router.post("/rollouts:rollback", status_code=201)
def rollback(admin: Admin, body: Rollback) -> RolloutView:
    """Back to `version`, or to what served before: where it is loaded still, the very next request."""
    alias = body.alias or admin.alias
    with admin.transaction() as session:
        target = body.version or rollouts.previous_version(session, alias)
        wish = Wish(target, champion(session, alias), admin.name, body.reason, force=body.force)
        return RolloutView.model_validate(wishes.rollback(session, wish, tenant=admin.tenant, alias=alias))


@router.post("/rollouts/{rollout_id:id}:abort")
def abort(admin: Admin, rollout_id: Id, body: Reasoned) -> RolloutView:
    """Ends it before its flip, and the champion answers everybody; 409 afterwards, when only a rollback helps."""
    return _steer(admin, wishes.abort, rollout_id, body)


@router.post("/rollouts/{rollout_id:id}:pause")
def pause(admin: Admin, rollout_id: Id, body: Reasoned) -> RolloutView:
    """Keeps it at its step; what speaks against it still ends it."""
    return _steer(admin, wishes.pause, rollout_id, body)


@router.post("/rollouts/{rollout_id:id}:resume")
def resume(admin: Admin, rollout_id: Id, body: Reasoned) -> RolloutView:
    """Lets it go on from its step, whose time begins anew."""
    return _steer(admin, wishes.resume, rollout_id, body)


def _steer(admin: Admin, wish: Callable[..., RolloutRow], rollout_id: str, body: Reasoned) -> RolloutView:
    with admin.transaction() as session:
        row = wish(session, rollout_id, tenant=admin.tenant, actor=admin.name, reason=body.reason)
        return RolloutView.model_validate(row)


def _wish(admin: Admin, session: Session, body: Wished) -> Wish:
    alias = wishes.alias_of(session, body.version, admin.tenant, body.alias or admin.alias)
    return Wish(
        body.version, champion(session, alias), admin.name, body.reason, admin.tenant, body.force, alias
    )  # fmt: skip
