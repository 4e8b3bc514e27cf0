"""The child process of one cycle: loads once, goes through the stages, says on its last line why it could not."""

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import psutil
import structlog

from infra.base_model import NotAModel
from infra.logs import configure_logging
from infra.ports import Ports
from infra.registry.errors import LeaseLost
from infra.registry.leases import Lease, cycle_lease
from infra.settings import SettingsError, load_settings
from trainer.cycle import Holding
from trainer.errors import CancelRequested, TrainerError, TryAgain
from trainer.launch import TRY_AGAIN
from trainer.workdir import Ending, work_dir

LOST, CANCELLED = 3, 4
PARENT_POLL_S = 0.5

Work = Callable[[Ports, Holding], object]


def main(arguments: list[str] | None = None, work: Work | None = None) -> int:
    """Exit status: 0 done, 1 failed, 3 lease lost, 4 cancelled, 75 try again.

    `work` None means the real stages.
    """
    options = _parse(arguments)
    watch_launcher(options.parent, elsewhere=options.elsewhere)
    settings = load_settings()
    configure_logging(settings.infra, process="trainer-child")
    structlog.contextvars.bind_contextvars(cycle_id=options.cycle)
    ports = Ports(settings)
    lease = Lease(cycle_lease(options.cycle), options.holder, options.epoch)
    holding = Holding(ports.database, options.cycle, lease, work_dir(settings.home, options.cycle))
    try:
        return run(holding, lambda: (work or _real_work())(ports, holding))
    finally:
        ports.close()


def run(holding: Holding, work: Callable[[], object]) -> int:
    """Every ending but a kill is noted: who starts several processes hides their exit status from the worker."""
    with ExitStack() as noting:
        noting.push(lambda _kind, error, _trace: _note(holding, error))
        try:
            work()
            return 0
        except (LeaseLost, TrainerError, SettingsError, NotAModel) as error:
            return _say(holding, error, _status(error))


def _status(error: Exception) -> int:
    known = {LeaseLost: LOST, CancelRequested: CANCELLED, TryAgain: TRY_AGAIN}
    return next((status for kind, status in known.items() if isinstance(error, kind)), 1)


def _say(holding: Holding, error: Exception, status: int) -> int:
    """Alone, the last line is what is left of a process that could not note its ending."""
    reason = " ".join(str(error).split())
    holding.work.note_ending(holding.lease.epoch, Ending(status, reason))
    sys.stderr.write(reason + "\n")
    return status


def _note(holding: Holding, fault: BaseException | None) -> None:
    """A fault of ours, on its way to its traceback."""
    if fault is not None:
        reason = " ".join(f"{type(fault).__name__}: {fault}".split())
        holding.work.note_ending(holding.lease.epoch, Ending(1, reason))


def _real_work() -> Work:
    from trainer.stages.table import work  # loads torch: only once the arguments are known to be right

    return work


def watch_launcher(launcher: int, *, elsewhere: bool) -> None:
    """Ends this process with its worker, however that dies, or with whatever the worker started it by: what nobody
    heartbeats for must not go on. `elsewhere`: it may run where the worker doesn't, and has its parent alone then."""
    line = line_up_to(launcher, elsewhere=elsewhere)

    def watch() -> None:
        while line and line_up_to(launcher, elsewhere=elsewhere) == line:
            time.sleep(PARENT_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, name="launcher", daemon=True).start()


def line_up_to(launcher: int, *, elsewhere: bool) -> list[int]:
    """The pids from this process's parent up to the launcher; nothing where that isn't above it and should be."""
    above = [process.pid for process in psutil.Process().parents()]
    if launcher in above:
        return above[: above.index(launcher) + 1]
    return above[:1] if elsewhere else []


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trainer.run", description=__doc__)
    parser.add_argument("--cycle", required=True)
    parser.add_argument("--epoch", type=int, required=True)
    parser.add_argument("--holder", required=True)
    parser.add_argument("--parent", type=int, required=True, help="pid of the worker that launched this")
    parser.add_argument("--elsewhere", action="store_true", help="the worker may be on another machine")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
