"""Processes of one stack as the machine knows them: who they are, where they listen, and how to end all of a group.

A pid alone says little, since pids are used again: a process is its pid together with its start time.
"""

import json
import os
import signal
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
from uuid6 import uuid7

STACK_VARIABLE = (
    "THUMBWHEEL_STACK"  # marks every process that a supervisor started, and what those start, with its home
)
START_SLACK_S = 1.0  # psutil counts a start time in clock ticks since the boot


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """What `run/<name>.json` holds. `started` is seconds since the epoch."""

    pid: int
    started: float
    address: str = ""


def announce(home: Path, name: str, address: str) -> None:
    """Says that this process listens at `address`. An exec keeps pid and start time, so the record stays true."""
    record = record_of(os.getpid(), address)
    write_json(run_file(home, name), asdict(record))


def announced(home: Path, name: str) -> ProcessRecord | None:
    """What the process of that name announced last; None where it has not, or is no longer alive."""
    found = read_json_file(run_file(home, name))
    if not found:
        return None
    record = ProcessRecord(int(found["pid"]), float(found["started"]), str(found["address"]))
    return record if is_alive(record) else None


def run_file(home: Path, name: str) -> Path:
    return home / "run" / f"{name}.json"


def record_of(pid: int, address: str = "") -> ProcessRecord:
    """Raises psutil.NoSuchProcess."""
    return ProcessRecord(pid, psutil.Process(pid).create_time(), address)


def is_alive(record: ProcessRecord) -> bool:
    """Whether that very process runs; one that has ended and waits to be reaped does not."""
    try:
        process = psutil.Process(record.pid)
        return process.status() != psutil.STATUS_ZOMBIE and _same(process.create_time(), record.started)
    except psutil.NoSuchProcess:
        return False


def group_members(record: ProcessRecord) -> list[psutil.Process]:
    """The live processes of the group this one leads or led, wherever it is dead itself.

    The kernel gives no pid away while a group bears it, so a group without its leader is still the leader's.
    """
    leader_is_another = psutil.pid_exists(record.pid) and not _started_at(record.pid, record.started)
    if leader_is_another or record.started < psutil.boot_time() - START_SLACK_S:
        return []
    return [process for process in psutil.process_iter() if _group_of(process) == record.pid and _runs(process)]


def marked(home: Path) -> list[psutil.Process]:
    """Every live process that carries the mark of the stack in `home`, whatever group it has put itself into."""
    return [p for p in psutil.process_iter() if p.pid != os.getpid() and _mark(p) == str(home) and _runs(p)]


def end(processes: Iterable[psutil.Process], *, grace_s: float) -> list[int]:
    """SIGTERM, and SIGKILL to what is left after `grace_s`; returns the pids that had to be killed."""
    chosen = list(processes)
    for process in chosen:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(chosen, timeout=grace_s)
    kill(alive)
    return [process.pid for process in alive]


def kill(processes: Sequence[psutil.Process]) -> None:
    """SIGKILL, and waits until they are gone: at once but for a process stuck in the kernel."""
    for process in processes:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(processes, timeout=5)


def wait_until_gone(record: ProcessRecord, timeout_s: float) -> bool:
    """Whether the process ended in time."""
    deadline = time.monotonic() + timeout_s
    while is_alive(record):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def write_json(path: Path, value: object) -> None:
    """Appears whole: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid7().hex}")
    aside.write_text(json.dumps(value))
    aside.replace(path)


def read_json_file(path: Path) -> dict[str, Any]:
    """The object in the file; empty where there is no file."""
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}


def _same(one: float, other: float) -> bool:
    return abs(one - other) < START_SLACK_S


def _started_at(pid: int, started: float) -> bool:
    try:
        return _same(psutil.Process(pid).create_time(), started)
    except psutil.NoSuchProcess:
        return False


def _group_of(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except ProcessLookupError:
        return None


def _mark(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(STACK_VARIABLE)
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return None


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
