"""Which function does which state's work, over one base that is loaded once."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from infra.clock import now
from infra.ports import Ports
from infra.registry.cycles import CycleState
from trainer.cycle import Holding, Result, Stage
from trainer.progress import StageProgress
from trainer.sinks import open_sinks
from trainer.stages.evaluating import evaluating
from trainer.stages.material import Material
from trainer.stages.policy import policy
from trainer.stages.publishing import publishing, register
from trainer.stages.reward import reward
from trainer.stages.sft import sft

Fill = Callable[[Material, Path, StageProgress], Result]


@contextmanager
def open_stages(ports: Ports, holding: Holding) -> Iterator[Mapping[CycleState, Stage]]:
    material = Material(ports, holding)
    try:
        yield {
            CycleState.SFT: Stage(partial(recorded, material, sft)),
            CycleState.REWARD: Stage(partial(recorded, material, reward)),
            CycleState.POLICY: Stage(partial(recorded, material, policy)),
            CycleState.EVALUATING: Stage(partial(recorded, material, evaluating)),
            CycleState.PUBLISHING: Stage(partial(recorded, material, publishing), partial(register, material)),
        }
    finally:
        material.close()


def recorded(material: Material, fill: Fill, part: Path, progress: StageProgress) -> Result:
    """The stage, its steps in metrics files and with whatever `trainer.report_to` names, and its cost in the result."""
    row, home = material.holding.row(), material.ports.home
    start_s = (now() - row.updated_at).total_seconds()
    file, run = material.holding.work.metrics_file(row.state), f"cycle-{row.cycle_id}-{row.state}"
    with open_sinks(file, material.settings.report_to, home, run) as sinks:
        return material.meter.of(start_s, lambda: fill(material, part, StageProgress(progress.report, sinks)))
