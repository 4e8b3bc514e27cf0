"""The child process of one cycle: loads once, goes through the stages, says on its last line why it could not."""

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import structlog

from infra.base_model import NotAModel
from infra.logs import configure_logging
from infra.ports import Ports
from infra.registry.cycles import CycleState
from infra.registry.errors import LeaseLost
from infra.registry.leases import Lease, cycle_lease
from infra.settings import SettingsError, load_settings
from trainer.cycle import Holding, Stage, run_stages
from trainer.errors import CancelRequested, TrainerError, TryAgain
from trainer.launch import TRY_AGAIN
from trainer.workdir import work_dir

LOST, CANCELLED = 3, 4
PARENT_POLL_S = 0.5

MakeStages = Callable[[Ports, Holding], AbstractContextManager[Mapping[CycleState, Stage]]]


def main(arguments: list[str] | None = None, stages: MakeStages | None = None) -> int:
    """Exit status: 0 done, 1 failed, 3 lease lost, 4 cancelled, 75 try again. `stages` None means the real ones."""
    options = _parse(arguments)
    watch_parent(options.parent)
    settings = load_settings()
    configure_logging(settings.infra, process="trainer-child")
    structlog.contextvars.bind_contextvars(cycle_id=options.cycle)
    ports = Ports(settings)
    lease = Lease(cycle_lease(options.cycle), options.holder, options.epoch)
    holding = Holding(ports.database, options.cycle, lease, work_dir(settings.home, options.cycle))
    try:
        return _run(holding, lambda: (stages or _real_stages())(ports, holding))
    finally:
        ports.close()


def _run(holding: Holding, opened: Callable[[], AbstractContextManager[Mapping[CycleState, Stage]]]) -> int:
    try:
        with opened() as stages:
            run_stages(holding, stages)
        return 0
    except LeaseLost as error:
        return _say(error, LOST)
    except CancelRequested as error:
        return _say(error, CANCELLED)
    except TryAgain as error:
        return _say(error, TRY_AGAIN)
    except (TrainerError, SettingsError, NotAModel) as error:
        return _say(error, 1)


def _say(error: Exception, status: int) -> int:
    """The worker takes the last line as the reason."""
    sys.stderr.write(" ".join(str(error).split()) + "\n")
    return status


def _real_stages() -> MakeStages:
    from trainer.stages.table import open_stages  # loads torch: only once the arguments are known to be right

    return open_stages


def watch_parent(parent: int) -> None:
    """Ends this process with its worker, however that dies: what nobody heartbeats for must not go on."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_S)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m trainer.run", description=__doc__)
    parser.add_argument("--cycle", required=True)
    parser.add_argument("--epoch", type=int, required=True)
    parser.add_argument("--holder", required=True)
    parser.add_argument("--parent", type=int, required=True, help="pid of the worker that launched this")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
