"""What this room's commands read from the registry and show."""

import time
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm import Session

from infra.console import print_table
from infra.contracts.manifests import GateReport, GateResult
from infra.contracts.routing import BASE_VERSION
from infra.database.engine import Database
from infra.database.tables import Base, RolloutRow
from infra.registry import fleet, rollouts
from infra.settings import Settings
from serving.gates import OWN
from serving.gates.catalogue import asked_of_nothing, gates_for, known_gates
from serving.gates.subject import files_named

LOOK_S = 0.05


def as_dict(row: Base) -> dict[str, Any]:
    """Every column by name."""
    return {column.key: getattr(row, column.key) for column in inspect(type(row)).column_attrs}


def champion(session: Session, alias: str) -> str:
    """Who answers for this alias now; the base before the first table."""
    table = fleet.routing_table(session)
    return table.aliases[alias].champion if table and alias in table.aliases else BASE_VERSION


def follow(database: Database, rollout_id: str, timeout_s: float) -> RolloutRow:
    """The rollout once it has ended, or as it stands after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        with database.reading() as session:
            row = rollouts.get(session, rollout_id)
        if row.state in rollouts.FINAL_STATES or time.monotonic() > deadline:
            return row
        time.sleep(LOOK_S)


def place(row: RolloutRow) -> str:
    """Which of its steps it is at."""
    steps = rollouts.steps_of(row)
    if not steps:
        return ""
    return "all passed" if row.step >= len(steps) else f"{row.step + 1}/{len(steps)} {steps[row.step].title}"


def show_report(report: GateReport) -> None:
    title = f"{report.version} against {report.champion}: {report.verdict}"
    rows = [(g.name, "blocking" if g.blocking else "advisory", g.verdict, g.reason) for g in report.gates]
    print_table(("gate", "", "verdict", "why"), rows, title=title)


def listed_gates(settings: Settings) -> list[dict[str, Any]]:
    """What a candidate of a cycle under these settings would go through. Raises SettingsError as `gates_for` does."""
    wanted = files_named(settings.trainer.model_dump())
    asked = {gate.name: asked_of_nothing(gate, settings.serving, wanted) for gate in gates_for(settings.serving)}
    return [_listed(gate.name, asked.get(gate.name)) for gate in known_gates()]


def _listed(name: str, found: GateResult | None) -> dict[str, Any]:
    state = "off" if found is None else "blocking" if found.blocking else "advisory"
    source = "thumbwheel" if name in OWN else "a plug-in"
    return {"name": name, "state": state, "threshold": found.threshold if found else None, "from": source}
