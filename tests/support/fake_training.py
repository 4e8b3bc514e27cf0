"""A child process with the real loop and the real registry, whose stages only leave files behind.

`python -m tests.support.fake_training` takes trainer.run's arguments; FAKE_TRAINING in the environment is JSON:
`hang`: the stage that never ends, `stuck`: the stage whose first step never ends, `fail`: the stage that fails, `away`:
the stage whose engine is away. Of several processes all but the first wait for their end.
"""

import json
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from infra.ports import Ports
from infra.registry.cycles import CycleState
from infra.registry.leases import Lease
from infra.settings import TrainerSettings
from trainer.cycle import FOLLOWING, Holding, Stage, run_stages
from trainer.errors import StageFailed, TryAgain
from trainer.launch import child_command
from trainer.progress import StageProgress
from trainer.run import main

VARIABLE = "FAKE_TRAINING"


def fake_command(cycle_id: str, lease: Lease, settings: TrainerSettings) -> list[str]:
    """What a Launcher starts in place of trainer.run."""
    command = child_command(cycle_id, lease, settings)
    return [part.replace("trainer.run", "tests.support.fake_training") for part in command]


def work(_ports: Ports, holding: Holding) -> None:
    if os.environ.get("RANK", "0") != "0":
        threading.Event().wait()
    plan = json.loads(os.environ.get(VARIABLE, "{}"))
    run_stages(holding, {state: Stage(partial(_stage, holding, plan, state)) for state in FOLLOWING})


def _stage(
    holding: Holding, plan: dict[str, str], state: CycleState, part: Path, progress: StageProgress
) -> dict[str, Any]:
    """Notes each start, since the tests count how often a stage was run."""
    with (holding.work.root / "started.txt").open("a") as file:
        file.write(f"{state}\n")
    (part / "weights.bin").write_bytes(state.encode())
    if plan.get("fail") == state:
        raise StageFailed("only 3 pairs, 50 are needed")
    if plan.get("away") == state:
        raise TryAgain("the engine is away")
    if plan.get("stuck") == state:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        threading.Event().wait()  # as in a long forward: nothing is reported, nothing is asked
    steps = 10_000 if plan.get("hang") == state else 2
    for step in range(1, steps + 1):
        progress(step, steps, {"loss": 1 / step})
        time.sleep(0.02 if steps > 2 else 0)
    return {"stage": state}


if __name__ == "__main__":
    sys.exit(main(work=work))
