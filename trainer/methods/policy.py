"""The interface of all policy methods: what they get, what they give back, and the table of them by name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from infra.settings import TrainerSettings
from trainer.checkpoints import NOWHERE, Checkpoints
from trainer.data import Demonstration, Preference, Prompt, Unpaired
from trainer.errors import StageFailed
from trainer.history import Trained
from trainer.model import Base
from trainer.progress import Progress, silent
from trainer.rewarding import Reward
from trainer.sampling import Sampler

METHODS = {  # the setting trainer.method -> the module with `train`
    "ppo": "trainer.methods.ppo",
    "grpo": "trainer.methods.grpo",
    "rloo": "trainer.methods.rloo",
    "dpo": "trainer.methods.dpo",
    "kto": "trainer.methods.kto",
}
SAMPLING = frozenset({"ppo", "grpo", "rloo"})  # these learn from samples of their own, against a reward model


@dataclass(frozen=True, slots=True)
class PolicyContext:
    """`adapter` is attached to the base already (fresh, or a copy of the champion) and is what gets trained.

    `anchor` names the adapter that KL is taken to, None the bare base. Samples are drawn under the reserved names
    `<samples_name>_<step>`; an engine may never see one of them twice, so `samples_name` is unique to this attempt.
    `held_out` is a reward model of other raters, which the guard watches.
    """

    base: Base
    adapter: str
    anchor: str | None
    settings: TrainerSettings
    seed: int
    directory: Path
    samples_name: str
    sampler: Sampler | None = None
    reward: Reward | None = None
    held_out: Reward | None = None
    prompts: Sequence[Prompt] = ()
    pairs: Sequence[Preference] = ()
    unpaired: Sequence[Unpaired] = ()
    demonstrations: Sequence[Demonstration] = ()
    progress: Progress = silent
    checkpoints: Checkpoints = NOWHERE

    @property
    def needed_sampler(self) -> Sampler:
        if self.sampler is None:
            raise StageFailed(f"{self.settings.method} needs a sampler")
        return self.sampler

    @property
    def needed_reward(self) -> Reward:
        if self.reward is None:
            raise StageFailed(f"{self.settings.method} needs a reward model")
        return self.reward

    @property
    def needed_prompts(self) -> Sequence[Prompt]:
        if not self.prompts:
            raise StageFailed(f"{self.settings.method} needs prompts, and the dataset has none")
        return self.prompts


PolicyMethod = Callable[[PolicyContext], Trained]


def policy_method(name: str) -> PolicyMethod:
    """Raises KeyError where there is no such method."""
    method: PolicyMethod = import_module(METHODS[name]).train
    return method
