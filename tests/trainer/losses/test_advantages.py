"""Advantages against NumPy, sums written out, and TRL."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainer.losses.advantages import (
    generalised_advantages,
    group_advantages,
    leave_one_out_advantages,
    standardise,
    whiten,
)


def test_advantages_are_standardised_within_each_group() -> None:
    advantages = group_advantages(torch.tensor([[1.0, 2.0, 3.0], [10.0, 10.0, 13.0]]))
    torch.testing.assert_close(advantages.mean(-1), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(advantages.std(-1), torch.ones(2), atol=1e-3, rtol=0)


def test_advantages_are_trl_s() -> None:
    """trl 1.16, grpo_trainer.py: (rewards - mean_grouped) / (std_grouped + 1e-4), the standard deviation over n - 1."""
    rewards = np.random.default_rng(0).normal(size=(5, 8))
    expected = (rewards - rewards.mean(1, keepdims=True)) / (rewards.std(1, ddof=1, keepdims=True) + 1e-4)
    np.testing.assert_allclose(group_advantages(torch.tensor(rewards)).numpy(), expected, rtol=1e-9)


def test_equal_rewards_teach_nothing() -> None:
    assert group_advantages(torch.full((2, 4), 3.0)).abs().max() == 0


def test_unscaled_advantages_are_differences_from_the_mean() -> None:
    rewards = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 0.0]])
    assert group_advantages(rewards, "none").tolist() == [[-2.0, -1.0, 3.0], [0.0, 0.0, 0.0]]


def test_advantages_scaled_by_the_batch_share_one_divisor() -> None:
    rewards = torch.randn(4, 6, dtype=torch.float64)
    ratio = group_advantages(rewards, "none") / group_advantages(rewards, "batch")
    torch.testing.assert_close(ratio, (rewards.std() + 1e-4).expand(4, 6), rtol=1e-9, atol=0)


def test_leaving_one_out_is_the_mean_of_the_others() -> None:
    rewards = np.random.default_rng(0).normal(size=(3, 5))
    expected = [[row[i] - np.delete(row, i).mean() for i in range(5)] for row in rewards]
    np.testing.assert_allclose(leave_one_out_advantages(torch.tensor(rewards)).numpy(), expected, rtol=1e-9)


def test_normalised_advantages_are_trl_s() -> None:
    """trl 1.16, rloo_trainer.py: (advantages - mean) / (std + 1e-4), over the batch."""
    rewards = torch.randn(3, 5, dtype=torch.float64)
    plain = leave_one_out_advantages(rewards).numpy()
    expected = (plain - plain.mean()) / (plain.std(ddof=1) + 1e-4)
    np.testing.assert_allclose(leave_one_out_advantages(rewards, normalise=True).numpy(), expected, rtol=1e-9)


@settings(deadline=None)
@given(st.floats(-5, 5), st.integers(0, 2**31))
def test_a_reward_that_all_samples_share_changes_no_advantage(shift: float, seed: int) -> None:
    rewards = torch.randn(2, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for advantages in (group_advantages, leave_one_out_advantages):
        torch.testing.assert_close(advantages(rewards + shift), advantages(rewards))


def test_standardised_values_have_mean_zero_and_deviation_one() -> None:
    found = standardise(3 + 2 * torch.randn(1000, dtype=torch.float64))
    assert abs(float(found.mean())) < 1e-12
    assert abs(float(found.std()) - 1) < 1e-3


def episode(seed: int, answers: int = 4, tokens: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Rewards, values and a mask of answers of unlike lengths; what lies behind an end is noise."""
    generator = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, answers, tokens, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, tokens + 1, (answers,), generator=generator)
    return rewards, values, (torch.arange(tokens) < lengths[:, None]).double()


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.5), (1.0, 0.0), (0.99, 1.0)])
def test_gae_is_its_sum_written_out(gamma: float, lam: float) -> None:
    """Schulman et al. 2015, equation 16, token by token in NumPy."""
    rewards, values, mask = episode(0)
    advantages, returns = generalised_advantages(rewards, values, mask, gamma=gamma, lam=lam)
    for row in range(len(rewards)):
        end = int(mask[row].sum())
        r, v = rewards[row, :end].numpy(), np.append(values[row, :end].numpy(), 0.0)
        deltas = r + gamma * v[1:] - v[:-1]
        expected = [sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, end)) for t in range(end)]
        np.testing.assert_allclose(advantages[row, :end].numpy(), expected, rtol=1e-9)
        np.testing.assert_allclose(returns[row, :end].numpy(), np.array(expected) + v[:-1], rtol=1e-9)


@settings(deadline=None)
@given(st.integers(0, 2**31))
def test_with_lambda_one_returns_are_the_discounted_rewards_to_come(seed: int) -> None:
    rewards, values, mask = episode(seed)
    _, returns = generalised_advantages(rewards, values, mask, gamma=0.9, lam=1.0)
    for row in range(len(rewards)):
        end = int(mask[row].sum())
        expected = sum(0.9**k * float(rewards[row, k]) for k in range(end))
        assert float(returns[row, 0]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**31))
def test_what_lies_behind_an_answer_s_end_touches_no_advantage(seed: int) -> None:
    rewards, values, mask = episode(seed)
    clean = generalised_advantages(rewards, values, mask, gamma=0.9, lam=0.8)
    wild = generalised_advantages(rewards + 7 * (1 - mask), values - 9 * (1 - mask), mask, gamma=0.9, lam=0.8)
    for one, other in zip(clean, wild, strict=True):
        torch.testing.assert_close(one, other)
        assert float((one * (1 - mask)).abs().max()) == 0.0


def test_whitened_values_have_deviation_one_over_the_tokens_that_count() -> None:
    _, values, mask = episode(3)
    values = 5 + 3 * values
    whole, kept = whiten(values, mask), whiten(values, mask, shift_mean=False)
    chosen = mask > 0
    torch.testing.assert_close(whole[chosen].std(), torch.ones((), dtype=torch.float64), atol=1e-6, rtol=0)
    assert abs(float(whole[chosen].mean())) < 1e-9
    torch.testing.assert_close(kept[chosen].mean(), values[chosen].mean())
    assert float((whole * (1 - mask)).abs().max()) == 0.0
