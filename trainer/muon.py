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
    tall = matrices_MIO.shape[-2] > matrices_MIO.shape[-1]
    wide = matrices_MIO.mT if tall else matrices_MIO
    wide = wide / (wide.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    iterated = _iterated_small if wide.shape[-1] >= 2 * wide.shape[-2] else _iterated
    result: Tensor = iterated(wide, iterations)
    return result.mT if tall else result


def _iterated(found_MIO: Tensor, iterations: int) -> Tensor:
    for _ in range(iterations):
        found_MIO = _step(found_MIO @ found_MIO.mT) @ found_MIO
    return found_MIO


def _iterated_small(wide_MIO: Tensor, iterations: int) -> Tensor:
    """The same for much wider matrices at two thirds of the cost: all steps are polynomials of one small matrix."""
    gram_MII = wide_MIO @ wide_MIO.mT
    product_MII = step_MII = _step(gram_MII)
    for _ in range(iterations - 1):
        gram_MII = step_MII @ (step_MII @ gram_MII)
        step_MII = _step(gram_MII)
        product_MII = step_MII @ product_MII
    return product_MII @ wide_MIO


def _step(gram_MII: Tensor) -> Tensor:
    """What one iteration multiplies by: a + b G + c G^2 of G = X X^T."""
    a, b, c = COEFFICIENTS
    step_MII = torch.baddbmm(gram_MII, gram_MII, gram_MII, beta=b, alpha=c)
    step_MII.diagonal(dim1=-2, dim2=-1).add_(a)
    return step_MII
