"""What a training sample is, and the one interface of those who write them: the engine or transformers.

`engine_sampler.py` asks the served engine, `transformers_sampler.py` the model in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trainer.data import Prompt


@dataclass(frozen=True, slots=True)
class Sampled:
    """One answer as it was really drawn: `token_ids` with the end token, `logprobs` of what was sampled from."""

    prompt_ids: Sequence[int]
    token_ids: Sequence[int]
    logprobs: Sequence[float]
    finish_reason: str
    text: str

    @property
    def truncated(self) -> bool:
        return self.finish_reason == "length"


class Sampler(Protocol):
    @property
    def apart(self) -> bool:
        """Whether it draws without the model in memory, so that this may be trained meanwhile."""

    def sample(
        self,
        prompts: Sequence[Prompt],
        *,
        adapter: str | None,
        n: int,
        temperature: float,
        top_p: float,
        max_tokens: int,
        seed: int,
    ) -> list[list[Sampled]]:
        """`n` answers per prompt, in the order of the prompts. No adapter: the bare base. Temperature 0: greedy."""

    def publish(self, name: str, directory: Path) -> None:
        """Makes an adapter available under a name that was never used before."""

    def retire(self, name: str) -> None:
        """Forgets the adapter; its directory may be deleted afterwards."""
