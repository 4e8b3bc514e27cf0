"""What the schedule does every few seconds: starts cycles that are due, and again those that lost their worker, and
clears away what those that ended have left."""

from collections.abc import Callable

from sqlalchemy.orm import Session

from infra.ports import Ports
from infra.registry import cycles, leases
from infra.registry.cycles import TRAINER_STATES
from trainer import triggers
from trainer.tidying import tidy


def sweep(ports: Ports, start: Callable[[str], object]) -> list[str]:
    """Calls `start` with each cycle that is the trainer's and nobody's; returns their ids."""
    triggers.fire(ports.database, ports.settings.trainer)
    tidy(ports)
    with ports.database.reading() as session:
        waiting = unheld(session)
    for cycle_id in waiting:
        start(cycle_id)
    return waiting


def unheld(session: Session) -> list[str]:
    """Cycles in a trainer state without a live lease, oldest first."""
    rows = cycles.in_states(session, TRAINER_STATES)
    return [row.cycle_id for row in rows if not leases.is_live(session, leases.cycle_lease(row.cycle_id))]
