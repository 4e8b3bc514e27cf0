"""`thumbwheel rollout status`: who answers now, and how a rollout stands, once or live."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live

from infra.clock import now
from infra.console import make_table, out
from infra.contracts.rollouts import Finding, Look
from infra.contracts.routing import ReplicaState, RoutingTable
from infra.database.engine import Database
from infra.database.tables import RolloutRow
from infra.registry import fleet, rollouts
from serving.capacity import shortage
from serving.listing import as_dict, place

REFRESH_S = 1.0


@dataclass(frozen=True, slots=True)
class Status:
    """`table` is None before the first one; `unfinished` begins with the oldest wish."""

    table: RoutingTable | None
    unfinished: Sequence[RolloutRow]

    @property
    def answers(self) -> bool:
        return self.table is not None and any(r.state is ReplicaState.READY for r in self.table.replicas)

    def as_json(self) -> dict[str, Any] | None:
        if self.table is None:
            return None
        told = [{**as_dict(row), "warning": shortage(self.table, row)} for row in self.unfinished]
        return {**self.table.model_dump(mode="json"), "rollouts": told}


def current(database: Database) -> Status:
    with database.reading() as session:
        return Status(fleet.routing_table(session), rollouts.unfinished(session))


def shown(status: Status) -> None:
    for part in _parts(status, now()):
        out().print(part)


def show_live(database: Database) -> None:
    """Until no rollout is under way."""
    with Live(console=out(), auto_refresh=False) as live:
        while (status := current(database)).unfinished:
            live.update(Group(*_parts(status, now())), refresh=True)
            time.sleep(REFRESH_S)
        live.update(Group(*_parts(status, now())), refresh=True)


def _parts(status: Status, at: datetime) -> Iterator[RenderableType]:
    if status.table is not None:
        yield _routes(status.table)
        yield make_table(
            ("replica", "state", "address", "base", "verified"),
            [(r.name, r.state, r.address, r.base_revision, ", ".join(r.versions)) for r in status.table.replicas],
        )
    for row in status.unfinished:
        yield from _rollout(row, at)
        if status.table is not None and (warning := shortage(status.table, row)):
            yield warning


def _routes(table: RoutingTable) -> RenderableType:
    rows: list[tuple[object, ...]] = [
        (route.alias, entry.version, entry.arm, entry.weight, ", ".join(route.previous))
        for route in table.aliases.values()
        for entry in route.versions
    ]
    rows += [
        (route.alias, version, "shadow", share, "") for route in table.aliases.values()
        for version, share in route.mirrors.items()
    ]  # fmt: skip
    return make_table(("alias", "version", "arm", "weight", "previous"), rows, title=f"revision {table.revision}")


def _rollout(row: RolloutRow, at: datetime) -> Iterator[RenderableType]:
    look, since = rollouts.look_of(row), row.step_began_at
    told = f"{row.kind} of {row.version}: {row.state}"
    if row.steps:
        told += f", step {place(row)}" + (f" for {(at - since).total_seconds():.0f} s" if since else "")
    if look is None:
        yield told
        return
    seen = f"{look.votes} votes on {look.answers} answers; {look.verdict}: {look.reason}"
    yield make_table(("monitor", "verdict", "seen", "limit", "why"), _findings(look), title=f"{told}\n{seen}")


def _findings(look: Look) -> list[tuple[object, ...]]:
    return [(f.name, f.verdict, _interval(f), f.threshold, f.reason) for f in look.findings]


def _interval(finding: Finding) -> str:
    found = finding.interval
    return f"{found.value:.3g} [{found.lo:.3g}, {found.hi:.3g}]" if found else ""
