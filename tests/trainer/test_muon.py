"""Muon's updates: orthogonal up to what its few iterations leave, whatever the matrix' shape."""

import pytest
import torch
from torch import Tensor, nn

from trainer.muon import COEFFICIENTS, ITERATIONS, Muon, orthogonalised

SHAPES = [(24, 24), (24, 30), (24, 64), (64, 24), (30, 24)]


def on_singular_values(matrix: Tensor) -> Tensor:
    """What the iteration converges through, in closed form: the quintic of each singular value, again and again."""
    a, b, c = COEFFICIENTS
    left, values, right = torch.linalg.svd(matrix / matrix.norm(), full_matrices=False)
    for _ in range(ITERATIONS):
        values = a * values + b * values**3 + c * values**5
    return left @ torch.diag(values) @ right


@pytest.mark.parametrize("shape", SHAPES)
def test_the_iteration_is_the_quintic_on_each_singular_value(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    expected = torch.stack([on_singular_values(matrix.double()) for matrix in matrices])
    assert torch.allclose(orthogonalised(matrices).double(), expected, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_end_near_one(shape: tuple[int, int]) -> None:
    matrices = torch.randn(2, *shape, generator=torch.Generator().manual_seed(2))
    values = torch.linalg.svdvals(orthogonalised(matrices))
    assert values.median() == pytest.approx(1, abs=0.25)
    assert values.max() < 1.3


def test_a_matrix_without_a_gradient_of_full_rank_stays_finite() -> None:
    thin = torch.zeros(1, 8, 40)
    thin[0, 0] = 1.0
    assert torch.isfinite(orthogonalised(thin)).all()
    assert orthogonalised(thin)[0, 1:].abs().max() < 1e-6


def test_steps_lead_to_where_the_loss_is_least() -> None:
    torch.manual_seed(0)
    wanted = torch.randn(16, 40)
    matrix = nn.Parameter(torch.zeros(16, 40))
    optimizer = Muon([matrix], lr=0.1)
    losses = []
    for step in range(120):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / 120)
        loss = ((matrix - wanted) ** 2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]
