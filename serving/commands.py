"""`thumbwheel adapter|rollout|gate|promote|rollback`: looks, and writes wishes that the controller fulfils."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from sqlalchemy.orm import Session

from infra.console import print_json, print_table
from infra.contracts.manifests import GateReport, Verdict
from infra.contracts.routing import BASE_VERSION
from infra.database.migrate import check_schema
from infra.ports import Ports
from infra.registry import adapters, fleet, rollouts
from infra.registry.errors import NotFound
from infra.registry.rollouts import FINAL_STATES, RolloutState
from infra.settings import load_settings

ACTOR = "cli"
LOOK_S = 0.05
EXIT_CODES = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 2}
ADAPTER_FIELDS = ("version", "alias", "cycle_id", "state", "reason", "created_at", "updated_at")
ROLLOUT_FIELDS = (
    "rollout_id", "alias", "kind", "version", "from_version", "state", "actor", "reason", "error", "requested_at",
    "flipped_at", "finished_at",
)  # fmt: skip

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Tenant = Annotated[str, typer.Option(help="Whose.")]
Reason = Annotated[str, typer.Option(help="Why; goes into the audit.")]
Wait = Annotated[float, typer.Option(min=0, help="Seconds to wait for the end; 0: don't wait.")]
Alias = Annotated[str, typer.Option(help="Which assistant; default: the gateway's.")]
Version = Annotated[str, typer.Argument(help="The version's name, as `adapter list` shows it.")]

adapter = typer.Typer(help="Published adapters and what became of them.", no_args_is_help=True)
rollout = typer.Typer(help="Changes of the champion.", no_args_is_help=True)
gate = typer.Typer(help="What an adapter has to pass before any user sees it.", no_args_is_help=True)


def register(root: typer.Typer) -> None:
    root.add_typer(adapter, name="adapter")
    root.add_typer(rollout, name="rollout")
    root.add_typer(gate, name="gate")
    root.command()(promote)
    root.command()(rollback)


def promote(
    version: Version, reason: Reason = "", tenant: Tenant = "default", wait: Wait = 60, json: Json = False
) -> None:
    """Makes a version the champion; a person's yes also to what its gates blocked."""
    with opened() as ports:
        with ports.database.transaction() as session:
            alias = adapters.get(session, version, tenant).alias
            row = rollouts.request_promotion(
                session, version=version, actor=ACTOR, reason=reason, tenant=tenant, champion=_champion(session, alias)
            )
        _follow(ports, row.rollout_id, wait, json=json)


def rollback(
    to: Annotated[str, typer.Option(help="A version that has served, or base; default: the one before.")] = "",
    reason: Reason = "",
    alias: Alias = "",
    tenant: Tenant = "default",
    wait: Wait = 60,
    json: Json = False,
) -> None:
    """Takes the champion back."""
    with opened() as ports:
        name = alias or ports.settings.gateway.alias
        with ports.database.transaction() as session:
            row = rollouts.request_rollback(
                session, tenant=tenant, alias=name, version=to or rollouts.previous_version(session, name),
                actor=ACTOR, reason=reason, champion=_champion(session, name),
            )  # fmt: skip
        _follow(ports, row.rollout_id, wait, json=json)


@adapter.command(name="list")
def list_adapters(tenant: Tenant = "default", json: Json = False) -> None:
    """Adapters, newest first."""
    with opened() as ports, ports.database.reading() as session:
        _table([_fields(row, ADAPTER_FIELDS) for row in adapters.list_adapters(session, tenant)], json=json)


@adapter.command(name="show")
def show_adapter(version: Version, tenant: Tenant = "default", json: Json = False) -> None:
    """Everything about one version: manifest, gates, state."""
    with opened() as ports, ports.database.reading() as session:
        row = adapters.get(session, version, tenant)
        found = {**_fields(row, ADAPTER_FIELDS), "manifest": row.manifest, "gates": row.gates}
    if json:
        print_json(found)
    else:
        print_table(("field", "value"), list(found.items()))


@gate.command()
def check(version: Version, tenant: Tenant = "default", json: Json = False) -> None:
    """The report of a version's gates; exit 0 pass, 1 fail, 2 inconclusive."""
    with opened() as ports, ports.database.reading() as session:
        stored = adapters.get(session, version, tenant).gates
    if stored is None:
        raise NotFound(f"{version} has not been through its gates yet")
    report = GateReport.model_validate(stored)
    if json:
        print_json(report.model_dump(mode="json"))
    else:
        rows = [(g.name, g.verdict, "blocking" if g.blocking else "advisory", g.reason) for g in report.gates]
        print_table(("gate", "verdict", "kind", "why"), rows, title=f"{version}: {report.verdict}")
    raise typer.Exit(EXIT_CODES[report.verdict])


@rollout.command(name="list")
def list_rollouts(tenant: Tenant = "default", json: Json = False) -> None:
    """Rollouts, newest first."""
    with opened() as ports, ports.database.reading() as session:
        _table([_fields(row, ROLLOUT_FIELDS) for row in rollouts.list_rollouts(session, tenant)], json=json)


@rollout.command()
def status(rollout_id: str, tenant: Tenant = "default", json: Json = False) -> None:
    """One rollout."""
    with opened() as ports, ports.database.reading() as session:
        _show(_fields(rollouts.get(session, rollout_id, tenant), ROLLOUT_FIELDS), json=json)


@rollout.command()
def abort(rollout_id: str, reason: Reason = "", tenant: Tenant = "default", json: Json = False) -> None:
    """Ends a rollout before its flip."""
    with opened() as ports, ports.database.transaction() as session:
        row = rollouts.request_abort(session, rollout_id, tenant=tenant, actor=ACTOR, reason=reason)
        _show(_fields(row, ROLLOUT_FIELDS), json=json)


@contextmanager
def opened() -> Iterator[Ports]:
    """The ports of this command; raises SchemaMismatch where the product was never started."""
    ports = Ports(load_settings())
    try:
        check_schema(ports.database)
        yield ports
    finally:
        ports.close()


def _champion(session: Session, alias: str) -> str:
    table = fleet.routing_table(session)
    return table.aliases[alias].champion if table and alias in table.aliases else BASE_VERSION


def _follow(ports: Ports, rollout_id: str, wait_s: float, *, json: bool) -> None:
    """Exit 0 flipped (or only asked for), 1 failed, 2 still under way when the waiting ended."""
    deadline = time.monotonic() + wait_s
    while True:
        with ports.database.reading() as session:
            row = rollouts.get(session, rollout_id)
        flipped = row.state == RolloutState.DRAINING or row.state in FINAL_STATES
        if flipped or time.monotonic() >= deadline:
            break
        time.sleep(LOOK_S)
    _show(_fields(row, ROLLOUT_FIELDS), json=json)
    failed = row.state in (RolloutState.FAILED, RolloutState.ABORTED)
    raise typer.Exit(1 if failed else 2 if wait_s and not flipped else 0)


def _fields(row: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in names}


def _table(rows: list[dict[str, Any]], *, json: bool) -> None:
    if json:
        print_json(rows)
    else:
        print_table(list(rows[0]) if rows else ["nothing yet"], [list(row.values()) for row in rows])


def _show(row: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(row)
    else:
        print_table(("field", "value"), [(name, value) for name, value in row.items() if value is not None])
