"""Rates, clipping, threads and batches: what every method's loop relies on."""

import pytest
import torch
from torch import nn

from trainer.optimizing import MAX_GRAD_NORM, apply_gradients, cosine, set_rates, shuffled_batches, threads


def make_optimizer(rate: float = 0.5) -> tuple[nn.Parameter, torch.optim.Optimizer]:
    parameter = nn.Parameter(torch.zeros(2))
    return parameter, torch.optim.SGD([parameter], lr=rate)


def test_the_rate_warms_up_and_falls_to_its_floor() -> None:
    factors = [cosine(step, 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.2)
    assert max(factors) == factors[5] == 1.0
    assert factors[:5] == sorted(factors[:5])
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert factors[-1] < 0.01
    assert cosine(100, 100, floor=0.1) == pytest.approx(0.1)


def test_a_single_step_runs_at_the_full_rate() -> None:
    assert cosine(0, 1) == 1.0


def test_a_factor_is_of_the_first_rate_however_often_it_is_set() -> None:
    _, optimizer = make_optimizer(0.5)
    for factor in (0.1, 1.0, 0.5):
        set_rates(optimizer, factor)
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_a_large_gradient_is_clipped_and_its_norm_told() -> None:
    parameter, optimizer = make_optimizer(1.0)
    parameter.grad = torch.tensor([30.0, 40.0])
    assert apply_gradients(optimizer, [parameter]) == pytest.approx(50.0)
    assert float(parameter.detach().norm()) == pytest.approx(MAX_GRAD_NORM, rel=1e-4)
    assert parameter.grad is None


def test_a_small_gradient_is_taken_as_it_is() -> None:
    parameter, optimizer = make_optimizer(1.0)
    parameter.grad = torch.tensor([0.3, 0.0])
    apply_gradients(optimizer, [parameter])
    assert parameter.tolist() == pytest.approx([-0.3, 0.0])


def test_the_number_of_threads_comes_back_even_after_an_error() -> None:
    before, within = torch.get_num_threads(), 0

    def fail() -> None:
        nonlocal within
        with threads(before + 1):
            within = torch.get_num_threads()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (within, torch.get_num_threads()) == (before + 1, before)


def test_a_pass_holds_every_row_once_in_batches_of_like_length() -> None:
    lengths = [(7 * number) % 50 for number in range(100)]
    batches = shuffled_batches(lengths, 8, seed=0)
    assert sorted(index for batch in batches for index in batch) == list(range(100))
    spreads = [max(lengths[i] for i in batch) - min(lengths[i] for i in batch) for batch in batches]
    assert max(len(batch) for batch in batches) == 8
    assert sum(spreads) / len(spreads) < 10


def test_another_seed_gives_another_order() -> None:
    assert shuffled_batches([1] * 40, 8, seed=0) == shuffled_batches([1] * 40, 8, seed=0)
    assert shuffled_batches([1] * 40, 8, seed=0) != shuffled_batches([1] * 40, 8, seed=1)
