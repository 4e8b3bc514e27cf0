"""`thumbwheel rollout ...`: how far a version has got on its way to everybody, and how it goes on."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from infra.console import err, print_json, print_table
from serving.command_line import ACTOR, Alias, Force, Json, Limit, Reason, Tenant, Version, opened, tell

if TYPE_CHECKING:  # heavy imports wait until a command is called
    from sqlalchemy.orm import Session

    from infra.database.tables import RolloutRow

RolloutId = Annotated[str, typer.Argument(help="As `rollout list` shows it; default: the one under way.")]
Follow = Annotated[bool, typer.Option("--follow", help="Show it live, until no rollout is under way.")]

rollout = typer.Typer(help="Changes of the version that answers.", no_args_is_help=True)


@rollout.command(name="start")
def start(
    version: Version,
    reason: Reason,
    alias: Alias = "",
    tenant: Tenant = "default",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Let a version that passed its gates earn its traffic by the steps of serving.rollout_steps; or `base-REVISION`,
    a base that replicas have, without an adapter."""
    from infra.registry import wishes
    from infra.registry.wishes import Wish
    from serving.listing import champion

    with opened() as ports:
        with ports.database.transaction() as session:
            of = wishes.alias_of(session, version, tenant, alias or ports.settings.gateway.alias)
            wish = Wish(version, champion(session, of), ACTOR, reason, tenant, force, of)
            row = wishes.start(session, wish, ports.settings.serving.rollout_steps)
        tell(ports, row, wait=False, as_json=as_json)


@rollout.command(name="list")
def list_rollouts(alias: Alias = "", tenant: Tenant = "default", limit: Limit = 20, as_json: Json = False) -> None:
    """Newest first; those that are queued wait for the one under way."""
    from infra.registry import rollouts
    from serving.listing import as_dict, place

    with opened() as ports, ports.database.reading() as session:
        rows = rollouts.list_rollouts(session, tenant, alias=alias or None, limit=limit)
    if as_json:
        return print_json([as_dict(row) for row in rows])
    columns = ("rollout", "kind", "version", "from", "state", "step", "requested", "actor", "why")
    cells = [
        (r.rollout_id, r.kind, r.version, r.from_version, r.state, place(r), r.requested_at, r.actor,
         r.error or r.reason)
        for r in rows
    ]  # fmt: skip
    return print_table(columns, cells)


@rollout.command(name="status")
def rollout_status(follow: Follow = False, as_json: Json = False) -> None:
    """Who answers now: versions by alias, what each replica has verified, and what a rollout has seen so far. Exit 2
    while nobody can answer."""
    from serving.exit_codes import UNDECIDED
    from serving.status import current, show_live, shown

    with opened() as ports:
        if follow:
            show_live(ports.database)
        status = current(ports.database)
    if as_json:
        print_json(status.as_json())
    elif not follow:
        shown(status)
    if not status.answers:
        err().print("no replica may answer users yet")
    raise typer.Exit(0 if status.answers else UNDECIDED)


@rollout.command(name="pause")
def pause(
    reason: Reason, rollout_id: RolloutId = "", alias: Alias = "", tenant: Tenant = "default", as_json: Json = False
) -> None:
    """Keep it at its step. What speaks against it still ends it."""
    from infra.registry import wishes

    _steer(wishes.pause, rollout_id, alias, tenant, reason, as_json=as_json)


@rollout.command(name="resume")
def resume(
    reason: Reason, rollout_id: RolloutId = "", alias: Alias = "", tenant: Tenant = "default", as_json: Json = False
) -> None:
    """Let it go on from its step, whose time begins anew."""
    from infra.registry import wishes

    _steer(wishes.resume, rollout_id, alias, tenant, reason, as_json=as_json)


@rollout.command(name="abort")
def abort(
    reason: Reason, rollout_id: RolloutId = "", alias: Alias = "", tenant: Tenant = "default", as_json: Json = False
) -> None:
    """End it before its flip: the champion answers everybody at once. Afterwards only a rollback helps."""
    from infra.registry import wishes

    _steer(wishes.abort, rollout_id, alias, tenant, reason, as_json=as_json)


@rollout.command(name="promote")
def promote(
    reason: Reason, rollout_id: RolloutId = "", alias: Alias = "", tenant: Tenant = "default", as_json: Json = False
) -> None:
    """Leave out the rest of its steps: the version answers everybody."""
    from infra.registry import rollouts, wishes
    from infra.registry.wishes import Wish

    def finish(session: "Session", chosen: str, *, tenant: str, actor: str, reason: str) -> "RolloutRow":
        row = rollouts.get(session, chosen, tenant)
        return wishes.promote(session, Wish(row.version, row.from_version, actor, reason, tenant, alias=row.alias))

    _steer(finish, rollout_id, alias, tenant, reason, as_json=as_json)


def _steer(
    wish: "Callable[..., RolloutRow]", rollout_id: str, alias: str, tenant: str, reason: str, *, as_json: bool
) -> None:
    with opened() as ports:
        with ports.database.transaction() as session:
            chosen = rollout_id or _under_way(session, alias or ports.settings.gateway.alias)
            row = wish(session, chosen, tenant=tenant, actor=ACTOR, reason=reason)
        tell(ports, row, wait=False, as_json=as_json)


def _under_way(session: "Session", alias: str) -> str:
    from infra.registry import rollouts
    from infra.registry.errors import NotFound

    if (row := rollouts.active(session, alias)) is None:
        raise NotFound(f"no rollout of {alias} is under way")
    return row.rollout_id
