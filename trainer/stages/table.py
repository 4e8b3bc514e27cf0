"""Which function does which state's work, over one base that is loaded once, by one process or by several."""

from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import structlog

from infra.clock import now
from infra.ports import Ports
from infra.registry.cycles import CycleState
from trainer.cycle import Holding, Result, Stage, run_stages
from trainer.progress import StageProgress, silent
from trainer.report_costs import COST
from trainer.sinks import open_sinks
from trainer.stages.evaluating import evaluating
from trainer.stages.material import Material
from trainer.stages.policy import policy
from trainer.stages.publishing import publishing, register
from trainer.stages.reward import reward
from trainer.stages.sft import sft
from trainer.world import Words, heeding_peers, words

Fill = Callable[[Material, Path, StageProgress], Result]
STATE: Words[str | None] = words(str | None)  # None: there is nothing more to do
TOKENS: Words[dict[str, int]] = words(dict[str, int])

FILLS: Mapping[CycleState, Fill] = {
    CycleState.SFT: sft,
    CycleState.REWARD: reward,
    CycleState.POLICY: policy,
    CycleState.EVALUATING: evaluating,
    CycleState.PUBLISHING: publishing,
}


def work(ports: Ports, holding: Holding) -> None:
    """This process's part of the cycle. Of several, the first leads: registry, results and reports are its alone.

    Raises PeerGone where another one ended before all were done.
    """
    with closing(Material(ports, holding)) as material, heeding_peers():
        world = material.world
        if world.size > 1:
            structlog.contextvars.bind_contextvars(rank=world.rank)
        if world.leads:
            run_stages(holding, stages_of(material))
            world.told(None, STATE)
        else:
            follow(material)
        world.leave()


def stages_of(material: Material) -> Mapping[CycleState, Stage]:
    """As the one that leads, or works alone, goes through them."""
    stages = {state: Stage(partial(recorded, material, fill)) for state, fill in FILLS.items()}
    commit = partial(register, material)
    return {**stages, CycleState.PUBLISHING: Stage(stages[CycleState.PUBLISHING].run, commit)}


def follow(material: Material) -> None:
    """Does its share of each stage as it is told to; what that writes goes into a directory that nobody reads."""
    while state := material.world.told(None, STATE):
        with TemporaryDirectory(dir=material.holding.work.root, prefix=f"{state}.", suffix=".part") as own:
            _join_in(material, CycleState(state), Path(own))


def _join_in(material: Material, state: CycleState, part: Path) -> None:
    fill = _attend if state is CycleState.PUBLISHING else FILLS[state]
    _metered(material, 0.0, lambda: fill(material, part, StageProgress(silent)))


def _attend(material: Material, _part: Path, _progress: StageProgress) -> Result:
    """Nothing is computed, but the base that is asked for its revision may have to be opened by all."""
    return {"base": material.base.revision}


def recorded(material: Material, fill: Fill, part: Path, progress: StageProgress) -> Result:
    """The stage, its steps in metrics files and with whatever `trainer.report_to` names, and its cost in the result."""
    row, home = material.holding.row(), material.ports.home
    start_s = (now() - row.updated_at).total_seconds()
    file, run = material.holding.work.metrics_file(row.state), f"cycle-{row.cycle_id}-{row.state}"
    material.world.told(row.state, STATE)
    with open_sinks(file, material.settings.report_to, home, run) as sinks:
        return _metered(material, start_s, lambda: fill(material, part, StageProgress(progress.report, sinks)))


def _metered(material: Material, start_s: float, stage: Callable[[], Result]) -> Result:
    """With its cost: this process's seconds, and the tokens of all."""
    result = material.meter.of(start_s, stage)
    said = material.world.everyone(result[COST]["tokens"], TOKENS)
    tokens = {name: sum(tokens[name] for tokens in said) for name in said[0]}
    return {**result, COST: {**result[COST], "tokens": tokens}}
