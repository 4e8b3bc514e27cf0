"""Which function does which state's work, over one base that is loaded once."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from infra.ports import Ports
from infra.registry.cycles import CycleState
from trainer.cycle import Holding, Stage
from trainer.stages.evaluating import evaluating
from trainer.stages.material import Material
from trainer.stages.policy import policy
from trainer.stages.publishing import publishing, register
from trainer.stages.reward import reward
from trainer.stages.sft import sft


@contextmanager
def open_stages(ports: Ports, holding: Holding) -> Iterator[Mapping[CycleState, Stage]]:
    material = Material(ports, holding)
    try:
        yield {
            CycleState.SFT: Stage(partial(sft, material)),
            CycleState.REWARD: Stage(partial(reward, material)),
            CycleState.POLICY: Stage(partial(policy, material)),
            CycleState.EVALUATING: Stage(partial(evaluating, material)),
            CycleState.PUBLISHING: Stage(partial(publishing, material), partial(register, material)),
        }
    finally:
        material.close()
