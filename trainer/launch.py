"""Starts the child process that trains, keeps its lease alive, and ends it when it must not go on."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil
import structlog
from prometheus_client import CollectorRegistry
from uuid6 import uuid7

from infra.ports import Ports
from infra.registry import adapters, cycles, leases
from infra.registry.cycles import TRAINER_STATES, CycleState
from infra.registry.errors import LeaseLost
from infra.registry.leases import Lease
from infra.settings import HOME_VARIABLE, TrainerSettings
from trainer.metrics import Metrics
from trainer.workdir import Ending, work_dir

log = structlog.get_logger()

TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h: the child could not go on for now
MOST_CRASHES = 5  # then the cycle fails: it is the cycle that kills its children
LOG_TAIL_BYTES = 4096
MOST_BEAT_S = 1.0

Command = Callable[[str, Lease, TrainerSettings], list[str]]
Move = tuple[CycleState, str]  # where a cycle has to go, and why


def beat_s(ttl_s: float) -> float:
    """How often a child is looked at: a cancelled one dies soon, and a lease outlives three looks that fail."""
    return min(MOST_BEAT_S, ttl_s / 4)


def child_command(cycle_id: str, lease: Lease, settings: TrainerSettings) -> list[str]:
    arguments = [
        "--cycle",
        cycle_id,
        "--epoch",
        str(lease.epoch),
        "--holder",
        lease.holder,
        "--parent",
        str(os.getpid()),
    ]
    elsewhere = ["--elsewhere"] if settings.launch_with else []
    return [*starter(settings), "-m", "trainer.run", *arguments, *elsewhere]


def starter(settings: TrainerSettings) -> list[str]:
    """What `-m` and a module follow. accelerate's own launcher starts several processes on GPUs alone; torchrun any."""
    if settings.launch_with:
        return shlex.split(settings.launch_with)
    if settings.processes == 1:
        return [sys.executable]
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={settings.processes}"]


def together(settings: TrainerSettings) -> bool:
    """Whether something stands between the worker and what trains."""
    return settings.processes > 1 or bool(settings.launch_with)


@dataclass(frozen=True)
class Launcher:
    """One training at a time: a second call returns at once and the sweep comes back to it."""

    ports: Ports
    stop: threading.Event
    command: Command = child_command
    metrics: Metrics = field(default_factory=lambda: Metrics(CollectorRegistry()))
    _busy: threading.Lock = field(default_factory=threading.Lock)

    def run(self, cycle_id: str) -> str:
        """Takes the cycle's lease, trains, and returns how it ended: a state, or why nothing was done."""
        outcome = self._run(cycle_id)
        self.metrics.runs.labels(outcome).inc()
        return outcome

    def _run(self, cycle_id: str) -> str:
        if not self._busy.acquire(blocking=False):
            return "busy"
        try:
            with structlog.contextvars.bound_contextvars(process="trainer", cycle_id=cycle_id):
                lease = self._acquire(cycle_id)
                return self._train(cycle_id, lease) if lease else "held"
        except LeaseLost as lost:
            log.warning("lease_lost", cycle_id=cycle_id, reason=str(lost))
            return "lost"
        finally:
            self._busy.release()

    @property
    def _ttl_s(self) -> float:
        return self.ports.settings.infra.lease_ttl_s

    def _acquire(self, cycle_id: str) -> Lease | None:
        with self.ports.database.transaction() as session:
            if CycleState(cycles.get(session, cycle_id).state) not in TRAINER_STATES:
                return None
            return leases.acquire(session, leases.cycle_lease(cycle_id), f"trainer-{uuid7().hex}", self._ttl_s)

    def _train(self, cycle_id: str, lease: Lease) -> str:
        log_file = self.ports.home / "logs" / f"cycle-{cycle_id}.log"
        log_file.parent.mkdir(parents=True, exist_ok=True)
        if unwanted := self._unwanted(cycle_id, lease):
            return self._end(cycle_id, lease, *unwanted)
        command = self.command(cycle_id, lease, self.ports.settings.trainer)
        if shutil.which(command[0]) is None:
            return self._end(cycle_id, lease, CycleState.FAILED, f"trainer.launch_with: there is no {command[0]} here")
        with log_file.open("ab") as output, Child(command, self.ports.home, output) as child:
            log.info("training_started", pid=child.process.pid, epoch=lease.epoch)
            with self.metrics.training.track_inprogress():
                unwanted = self._watch(cycle_id, lease, child)
                status = child.end()
        log.info("training_ended", status=status, unwanted=unwanted)
        ending = self._ending(cycle_id, lease, status, last_line(log_file))
        return self._settle(cycle_id, lease, ending, unwanted)

    def _ending(self, cycle_id: str, lease: Lease, status: int, last: str) -> Ending:
        """As the child noted it. Of one that couldn't, status and last line tell; torchrun's status tells nothing."""
        if noted := work_dir(self.ports.home, cycle_id).ending(lease.epoch):
            return noted
        if status < 0:
            return Ending(status, f"the training process was killed by signal {-status}")
        if together(self.ports.settings.trainer):
            return Ending(TRY_AGAIN, f"a training process was killed or could not begin: {last}")
        return Ending(status, last)

    def _watch(self, cycle_id: str, lease: Lease, child: "Child") -> Move | None:
        """Returns why it must not go on, if so; raises LeaseLost. Either way the child is ended by its owner."""
        while not child.ended(within_s=beat_s(self._ttl_s)):
            if self.stop.is_set():
                return None
            if unwanted := self._unwanted(cycle_id, lease):
                return unwanted
        return self._unwanted(cycle_id, lease)

    def _unwanted(self, cycle_id: str, lease: Lease) -> Move | None:
        """One heartbeat. A cycle that has moved on is not held any longer: its child lets go of the lease itself."""
        with self.ports.database.transaction() as session:
            row = cycles.get(session, cycle_id)
            if CycleState(row.state) not in TRAINER_STATES:
                return None
            leases.heartbeat(session, lease, self._ttl_s)
            if row.cancel_requested:
                return CycleState.CANCELLED, "cancelled on request"
            if adapters.is_erased(session, row.tenant, row.dataset_id):
                return CycleState.FAILED, f"dataset {row.dataset_id} was erased"
            return None

    def _settle(self, cycle_id: str, lease: Lease, ending: Ending, unwanted: Move | None) -> str:
        with self.ports.database.reading() as session:
            state = CycleState(cycles.get(session, cycle_id).state)
        if state not in TRAINER_STATES:
            return state
        if unwanted:
            return self._end(cycle_id, lease, *unwanted)
        if self.stop.is_set():
            return self._let_go(lease, "stopped")
        if ending.status == TRY_AGAIN or ending.status < 0:
            return self._crashed(cycle_id, lease, ending.reason)
        reason = ending.reason or f"the training process ended with {ending.status}"
        return self._end(cycle_id, lease, CycleState.FAILED, reason)

    def _crashed(self, cycle_id: str, lease: Lease, reason: str) -> str:
        """Killed from outside, or something was away: the sweep starts it again, but not for ever."""
        if work_dir(self.ports.home, cycle_id).note_crash(reason) >= MOST_CRASHES:
            return self._end(cycle_id, lease, CycleState.FAILED, f"{reason} (tried {MOST_CRASHES} times)")
        return self._let_go(lease, "crashed")

    def _end(self, cycle_id: str, lease: Lease, target: CycleState, reason: str) -> str:
        with self.ports.database.transaction() as session:
            cycles.advance(session, lease, cycle_id, target, reason=reason)
            leases.release(session, lease)
        return target

    def _let_go(self, lease: Lease, outcome: str) -> str:
        with self.ports.database.transaction() as session:
            leases.release(session, lease)
        return outcome


class Child:
    """A process in a group of its own that never outlives this block, nor does what it started. It has nothing to
    clean up, so it is killed."""

    def __init__(self, command: list[str], home: Path, output: IO[bytes]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, HOME_VARIABLE: str(home)},
            start_new_session=True,
        )

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def ended(self, within_s: float) -> bool:
        try:
            self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> int:
        """Kills the group while it is surely ours, and returns the exit status (negative: the signal)."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                os.killpg(self.process.pid, signal.SIGSTOP)  # while it is looked at it starts nothing more
                below = psutil.Process(self.process.pid).children(recursive=True)
                os.killpg(self.process.pid, signal.SIGKILL)
                _kill(below)
        return self.process.wait()


def _kill(processes: Sequence[psutil.Process]) -> None:
    """torchrun gives each of its processes a session, so that no signal to its group reaches them."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def last_line(path: Path) -> str:
    """The last line that says something: of a traceback, the error itself; rules under a report say nothing."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if any(map(str.isalnum, line))), "")
