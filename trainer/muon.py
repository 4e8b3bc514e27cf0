"""Muon: momentum whose update is made orthogonal. It learns the demo's facts in a third of AdamW's steps.

Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/. torch.optim.Muon iterates in bfloat16, which a CPU
without native support does at a quarter of float32's speed; here it is float32, all matrices of one shape at once.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration: Jordan et al.
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """For the weight matrices of hidden layers only; embeddings, heads and norms belong to another optimizer."""

    def __init__(self, matrices: Iterable[nn.Parameter], *, lr: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, _closure: None = None) -> None:  # type: ignore[override]  # nobody here has a closure
        for group in self.param_groups:
            alike: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[parameter.shape].append(parameter)
            for parameters in alike.values():
                self._update(parameters, group["lr"], group["momentum"])

    def _update(self, parameters: list[nn.Parameter], rate: float, momentum: float) -> None:
        """Nesterov momentum; the scale keeps an update's size per entry alike over shapes."""
        updates_MIO = torch.stack([self._look_ahead(parameter, momentum) for parameter in parameters])
        scale = max(1.0, updates_MIO.shape[1] / updates_MIO.shape[2]) ** 0.5
        for parameter, update in zip(parameters, orthogonalised(updates_MIO), strict=True):
            parameter.add_(update, alpha=-rate * scale)

    def _look_ahead(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        gradient = parameter.grad
        assert gradient is not None
        buffer: Tensor = self.state[parameter].setdefault("momentum", torch.zeros_like(gradient))
        buffer.lerp_(gradient, 1 - momentum)
        return gradient.lerp(buffer, momentum)


def orthogonalised(matrices_MIO: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """Each matrix with its singular values pushed towards 1 (they end between about .7 and 1.2)."""
    a, b, c = COEFFICIENTS
    tall = matrices_MIO.shape[-2] > matrices_MIO.shape[-1]
    found = matrices_MIO.mT if tall else matrices_MIO
    found = found / (found.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = found @ found.mT
        found = a * found + torch.baddbmm(b * gram, gram, gram, alpha=c) @ found
    result: Tensor = found.mT if tall else found
    return result
