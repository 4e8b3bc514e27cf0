"""A cycle on the terminal: a bar per stage with the time that is left, taken from the registry."""

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from infra.database.engine import Database
from infra.database.tables import CycleRow
from infra.registry import cycles
from infra.registry.cycles import FINAL_STATES, CycleState

POLL_S = 0.5
FIELDS = (
    "cycle_id", "tenant", "alias", "state", "trigger", "settings", "dataset_id", "reward_model", "version", "progress",
    "seconds", "reason", "cancel_requested", "created_at", "updated_at",
)  # fmt: skip


def as_json(row: CycleRow) -> dict[str, Any]:
    found = {name: getattr(row, name) for name in FIELDS}
    return {name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in found.items()}


def is_final(row: CycleRow) -> bool:
    return CycleState(row.state) in FINAL_STATES


def follow(database: Database, cycle_id: str, tenant: str, console: Console, poll_s: float = POLL_S) -> CycleRow:
    """Shows the cycle until it has ended and returns it; raises NotFound."""
    row = _read(database, cycle_id, tenant)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, TextColumn("{task.fields[left]}"), console=console) as bars:
        task, state = bars.add_task(_title(row), left="", total=None), row.state
        while not is_final(row):
            if row.state != state:
                bars.update(task, completed=1, total=1, left="")
                task, state = bars.add_task(_title(row), left="", total=None), row.state
            bars.update(task, **_bar(row))
            time.sleep(poll_s)
            row = _read(database, cycle_id, tenant)
        bars.update(task, completed=1, total=1, left="")
    console.print(f"cycle {cycle_id}: {row.state}" + (f" ({row.reason})" if row.reason else ""), markup=False)
    return row


def _read(database: Database, cycle_id: str, tenant: str) -> CycleRow:
    with database.reading() as session:
        return cycles.get(session, cycle_id, tenant)


def _title(row: CycleRow) -> str:
    return f"cycle {row.cycle_id} {row.state}"


def _bar(row: CycleRow) -> dict[str, Any]:
    """The registry keeps the last stage's progress until the next one reports: that is not this stage's."""
    progress = row.progress
    if progress.get("stage") != row.state:
        return {}
    eta, metrics = progress.get("eta_s"), progress.get("metrics", {})
    shown = " ".join(f"{name}={value:.3g}" for name, value in list(metrics.items())[-2:])
    left = f"{eta:.0f} s left" if eta is not None else ""
    return {"completed": progress["step"], "total": progress["total"], "left": f"{left} {shown}".strip()}
