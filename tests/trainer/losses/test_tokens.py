"""Log-probabilities and the sums that objectives take of them."""

import pytest
import torch

from trainer.losses.tokens import masked_mean, masked_sum, masked_variance, token_logprobs, weighted_mean


def test_token_logprobs_are_the_log_softmax_at_the_tokens() -> None:
    logits, tokens = torch.randn(5, 9), torch.tensor([0, 8, 3, 3, 1])
    expected = logits.log_softmax(-1)[torch.arange(5), tokens]
    torch.testing.assert_close(token_logprobs(logits, tokens), expected)


def test_token_logprobs_of_half_precision_logits_are_taken_in_float32() -> None:
    logits = torch.randn(3, 9).bfloat16()
    assert token_logprobs(logits, torch.tensor([1, 2, 3])).dtype == torch.float32


def test_masked_sums_and_means_ignore_what_is_masked() -> None:
    values, mask = torch.tensor([[1.0, 2.0, 50.0], [3.0, 50.0, 50.0]]), torch.tensor([[1, 1, 0], [1, 0, 0]])
    assert masked_sum(values, mask).tolist() == [3.0, 3.0]
    assert float(masked_mean(values, mask)) == 2.0
    assert float(masked_mean(values, torch.zeros_like(mask))) == 0.0


def test_a_weighted_mean_divides_by_the_weights() -> None:
    assert float(weighted_mean(torch.tensor([1.0, 4.0]), torch.tensor([3.0, 1.0]))) == pytest.approx(7 / 4)


def test_scaling_all_weights_changes_no_loss() -> None:
    losses, weights = torch.rand(6), torch.rand(6)
    torch.testing.assert_close(weighted_mean(losses, weights), weighted_mean(losses, 10 * weights))


def test_a_masked_variance_is_torch_s_over_what_is_left() -> None:
    values, mask = torch.tensor([[1.0, 2.0, 50.0], [4.0, 50.0, 50.0]]), torch.tensor([[1, 1, 0], [1, 0, 0]])
    torch.testing.assert_close(masked_variance(values, mask), torch.tensor([1.0, 2.0, 4.0]).var())
    assert float(masked_variance(values[:1, :1], mask[:1, :1])) == 0.0
