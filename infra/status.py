"""What `thumbwheel status` tells: the processes, who answers, and the work under way."""

from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from infra.child import answers
from infra.database.schema import head_revision, stored_revision
from infra.database.tables import CycleRow, RolloutRow
from infra.figures import figures
from infra.ports import Ports
from infra.registry import cycles, fleet
from infra.registry import rollouts as rollout_registry
from infra.settings import Settings
from infra.stack import ProcessState, ProcessStatus, StackStatus, current_status

UNREADY = "unready"  # it runs, but says that something it depends on cannot be reached


def describe(settings: Settings) -> dict[str, Any]:
    """`state`, `processes` by name, their `figures`, `champion` by alias, the counts and current ones of cycles and
    rollouts."""
    status = current_status(settings.home)
    return {
        "state": str(status.state),
        "home": str(settings.home),
        "processes": processes(status),
        "figures": figures({name: one.address for name, one in status.processes.items() if one.address}),
        **_registry(settings),
    }


def processes(status: StackStatus) -> dict[str, dict[str, Any]]:
    """Each is asked now, since a process that was ready once may have lost what it depends on."""
    return {name: _process(process) for name, process in status.processes.items()}


def log_file(home: Path, name: str) -> Path:
    return home / "logs" / f"{name}.log"


def _process(process: ProcessStatus) -> dict[str, Any]:
    state = str(process.state)
    if process.state is ProcessState.READY and not answers(process.address + process.ready_path):
        state = UNREADY
    return {"state": state, "pid": process.pid, "address": process.address, "restarts": process.restarts}


def _registry(settings: Settings) -> dict[str, Any]:
    """Nothing where the state directory has no database of this schema yet."""
    if not settings.infra.database_url.get_secret_value() and not (settings.home / "state.db").is_file():
        return {}
    ports = Ports(settings)
    try:
        if stored_revision(ports.database) != head_revision():
            return {}
        with ports.database.reading() as session:
            return _summary(session)
    finally:
        ports.close()


def _summary(session: Session) -> dict[str, Any]:
    table = fleet.routing_table(session)
    routes = table.aliases if table else {}
    return {
        "champion": {alias: route.champion for alias, route in routes.items()},
        "routing_revision": table.revision if table else 0,
        "replicas": {replica.name: str(replica.state) for replica in fleet.replicas(session)},
        "cycles": {"states": _by_state(session, CycleRow), "running": _running_cycles(session)},
        "rollouts": {"states": _by_state(session, RolloutRow), "running": _running_rollouts(session)},
    }


def _by_state(session: Session, table: type[CycleRow] | type[RolloutRow]) -> dict[str, int]:
    rows = session.execute(select(table.state, func.count()).group_by(table.state))
    return {state: count for state, count in rows}  # noqa: C416 a Row is not typed as a pair


def _running_cycles(session: Session) -> list[dict[str, Any]]:
    states = frozenset(cycles.CycleState) - cycles.FINAL_STATES
    return [
        {"cycle": row.cycle_id, "alias": row.alias, "state": row.state, "progress": row.progress}
        for row in cycles.in_states(session, states)
    ]


def _running_rollouts(session: Session) -> list[dict[str, Any]]:
    query = select(RolloutRow).where(RolloutRow.state.not_in(rollout_registry.FINAL_STATES))
    return [
        {"rollout": row.rollout_id, "kind": row.kind, "version": row.version, "state": row.state}
        for row in session.scalars(query)
    ]
