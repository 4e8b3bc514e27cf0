"""The value model of PPO: a LoRA and a linear head on the one base, trained beside the policy.

Apart from the policy's own LoRA, since the squared error of values would drown the policy's gradient in shared weights.
It begins as a copy of the reward model's LoRA where there is one (Ouyang et al. 2022, arXiv 2203.02155, section 3.5),
and learns at that one's rate.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from infra.settings import TrainerSettings
from trainer.batches import Batch, answer_states, by_token
from trainer.lines import Encoded
from trainer.loop import AdapterState
from trainer.losses.policy import value_loss
from trainer.losses.tokens import masked_mean
from trainer.model import Base, adapter_parameters, attach_adapter, copy_adapter, remove_adapter, using
from trainer.optimizing import HEAD_RATE, Optimiser


class ValueHead(nn.Module):
    """Hidden state to what the rest of the answer is expected to bring; zero until trained."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states_NH: Tensor) -> Tensor:
        values_N: Tensor = self.linear(states_NH.float())[:, 0]
        return values_N


class ValueModel:
    """Attaches the adapter `name` to the base until it is closed."""

    def __init__(self, base: Base, name: str, settings: TrainerSettings, *, like: str | None, seed: int) -> None:
        self._base, self._name, self._settings = base, name, settings
        if like is None:
            attach_adapter(base, name, rank=settings.reward_rank, alpha=2 * settings.reward_rank, seed=seed)
        else:
            copy_adapter(base, like, name)
        self.head = ValueHead(base.hidden_size).to(base.device)
        rate, lora = settings.reward_learning_rate, adapter_parameters(base, name)
        self._optimizer = Optimiser((lora, rate), (list(self.head.parameters()), HEAD_RATE * rate), world=base.world)

    def values(self, rows: Sequence[Encoded]) -> list[Tensor]:
        """One [T] per answer: before each of its tokens, what is still to come."""
        with using(self._base, self._name):
            return by_token(self._base, rows, self._values)

    def accumulate(self, batch: Batch, old_values_BT: Tensor, returns_BT: Tensor, share: float) -> dict[str, float]:
        """A forward and its backward; `share` is what one token weighs in the minibatch's loss."""
        mask_BT = batch.mask_BT.float()
        with using(self._base, self._name):
            values_BT = batch.spread(self._values(batch))
            off_BT, bitten_BT = value_loss(values_BT, old_values_BT, returns_BT, clip=self._settings.ppo_value_clip)
            (share * (off_BT * mask_BT).sum()).backward()
        return {
            "loss/value_avg": float(masked_mean(off_BT.detach(), mask_BT)),
            "val/clipfrac_avg": float(masked_mean(bitten_BT.float(), mask_BT)),
        }

    def step(self) -> None:
        self._optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        adapter = AdapterState(self._base, self._name).state_dict()
        return {"adapter": adapter, "head": self.head.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        AdapterState(self._base, self._name).load_state_dict(state["adapter"])
        self.head.load_state_dict(state["head"])
        self._optimizer.load_state_dict(state["optimizer"])

    def close(self) -> None:
        """Takes its adapter off the base."""
        remove_adapter(self._base, self._name)

    def _values(self, batch: Batch) -> Tensor:
        """[N]"""
        values_N: Tensor = self.head(answer_states(self._base, batch))
        return values_N
