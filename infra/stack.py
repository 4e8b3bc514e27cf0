"""The state of one stack as its supervisor writes it down, in `run/supervisor.json`, for `up --detach` and `status`."""

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from infra.processes import ProcessRecord, is_alive, read_json_file, run_file, write_json

SUPERVISOR = "supervisor"


class ProcessState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    WAITING = "waiting"  # died; starts again after its back-off
    STOPPED = "stopped"


class StackState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    FAILED = "failed"  # gave up before it was ever ready; `problem` says why
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """`since` is when the state began, seconds since the epoch; `usual_start_s` is how long its last start took."""

    name: str
    state: ProcessState
    pid: int
    started: float
    address: str
    ready_path: str
    restarts: int
    since: float
    usual_start_s: float


@dataclass(frozen=True, slots=True)
class StackStatus:
    """Of the supervisor itself `pid` and `started`; `exit_code` is what it ended with, once FAILED."""

    state: StackState
    pid: int = 0
    started: float = 0.0
    processes: dict[str, ProcessStatus] = field(default_factory=dict)
    problem: str = ""
    exit_code: int = 0

    @property
    def supervisor(self) -> ProcessRecord:
        return ProcessRecord(self.pid, self.started)


def write_status(home: Path, status: StackStatus) -> None:
    write_json(run_file(home, SUPERVISOR), asdict(status))


def last_status(home: Path) -> StackStatus:
    """What was written last, whether or not its supervisor still lives."""
    found = read_json_file(run_file(home, SUPERVISOR))
    if not found:
        return StackStatus(StackState.STOPPED)
    processes = {name: _process(row) for name, row in found.pop("processes").items()}
    return StackStatus(StackState(found.pop("state")), processes=processes, **found)


def current_status(home: Path) -> StackStatus:
    """What runs now: a stack without its supervisor is no stack, and what it left behind is `stopped` or an orphan."""
    status = last_status(home)
    if status.state is StackState.STOPPED or is_alive(status.supervisor):
        return status
    state = StackState.FAILED if status.state is StackState.FAILED else StackState.STOPPED
    left = {n: replace(p, state=ProcessState.STOPPED) for n, p in status.processes.items()}
    return replace(status, state=state, processes=left)


def records(status: StackStatus) -> list[ProcessRecord]:
    """The processes of that status that were ever started."""
    return [ProcessRecord(p.pid, p.started, p.address) for p in status.processes.values() if p.pid]


def _process(row: dict[str, object]) -> ProcessStatus:
    return ProcessStatus(**{**row, "state": ProcessState(str(row["state"]))})  # type: ignore[arg-type] # from JSON
