"""Rates, clipping, threads and batches: what every method's loop relies on."""

import pytest
import torch
from torch import nn

from trainer.optimizing import MAX_GRAD_NORM, Optimiser, cosine, set_rates, shuffled_batches, threads


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


def test_a_large_gradient_is_told_and_one_of_norm_one_is_stepped_by() -> None:
    stepped = []
    for scale in (1.0, 1000.0):
        parameter = nn.Parameter(torch.zeros(2))
        optimiser = Optimiser(([parameter], 0.5))
        for gradient in (torch.tensor([0.6, 0.8]) * scale, torch.tensor([0.8, 0.0])):
            parameter.grad = gradient.clone()
            told = optimiser.step()
            assert told == pytest.approx(float(gradient.norm()))
        stepped.append(parameter.detach().clone())
        assert parameter.grad is None
    assert MAX_GRAD_NORM == 1.0
    torch.testing.assert_close(stepped[0], stepped[1], rtol=1e-5, atol=0)  # Adam remembers the clipped one


def test_a_small_gradient_is_taken_as_it_is() -> None:
    ours, adams = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    optimiser, adam = Optimiser(([ours], 0.5)), torch.optim.AdamW([adams], lr=0.5, weight_decay=0.0)
    for gradient in ([0.3, 0.0], [0.01, -0.2]):
        ours.grad, adams.grad = torch.tensor(gradient), torch.tensor(gradient)
        optimiser.step()
        adam.step()
    torch.testing.assert_close(ours, adams)


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
