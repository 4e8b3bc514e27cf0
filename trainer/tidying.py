"""Working directories hold a copy of the dataset: they go with their cycle's end, or with its dataset's erasure.

Before that, the report is told how the cycle ended.
"""

from contextlib import suppress

import structlog
from sqlalchemy.orm import Session

from infra.ports import Ports
from infra.registry import adapters, cycles
from infra.registry.cycles import FINAL_STATES, SERVING_STATES, CycleState
from infra.registry.errors import NotFound
from trainer.report import Ending, complete_report
from trainer.workdir import work_dir, work_dirs

log = structlog.get_logger()


def tidy(ports: Ports) -> list[str]:
    """Removes those of this machine that nobody works in any more; returns their cycles' ids."""
    found = work_dirs(ports.home)
    with ports.database.reading() as session:
        over = [cycle_id for cycle_id in found if _is_over(session, cycle_id)]
    for cycle_id in over:
        if ending := _ending(ports, cycle_id):
            complete_report(ports.artifacts, cycle_id, ending)
        work_dir(ports.home, cycle_id).remove()
        log.info("working_directory_removed", cycle_id=cycle_id)
    return over


def _ending(ports: Ports, cycle_id: str) -> Ending | None:
    """None where another sweep has told the report already and removed what the bill is made of."""
    with ports.database.reading() as session:
        row = cycles.get(session, cycle_id)
        gates = adapters.get(session, row.version).gates if row.version else None
    work = work_dir(ports.home, cycle_id)
    with suppress(FileNotFoundError):
        results = work.results()
        return Ending(row.state, row.reason, gates, row.seconds, results) if work.root.is_dir() else None
    return None


def _is_over(session: Session, cycle_id: str) -> bool:
    """A directory of a cycle that the registry doesn't know is left alone."""
    try:
        row = cycles.get(session, cycle_id)
    except NotFound:
        return False
    state = CycleState(row.state)
    erased = adapters.is_erased(session, row.tenant, row.dataset_id)
    return state in FINAL_STATES or (state in SERVING_STATES and erased)
