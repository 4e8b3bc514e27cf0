"""Log-probabilities from the head in pieces are those from all logits at once, and so are their gradients."""

import pytest
import torch
from torch import nn

from trainer import head as module
from trainer.head import head_logprobs


def frozen(*, bias: bool = False) -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Linear(16, 50, bias=bias).requires_grad_(False)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows_per_piece", [1, 3, 100])
def test_values_and_gradients_are_those_of_a_log_softmax(
    bias: bool, rows_per_piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.FLOATS_PER_PIECE, "cpu", 50 * rows_per_piece)
    head, tokens, weights = frozen(bias=bias), torch.arange(7) * 7, torch.randn(7)
    states, again = (torch.linspace(-2, 2, 112).view(7, 16).requires_grad_() for _ in range(2))
    found = head_logprobs(head, states, tokens)
    expected = head(again).log_softmax(-1)[torch.arange(7), tokens]
    torch.testing.assert_close(found, expected)
    (found * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(states.grad, again.grad)


def test_nothing_as_large_as_the_vocabulary_is_kept_for_the_backward() -> None:
    kept: list[int] = []
    states = torch.randn(7, 16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        head_logprobs(frozen(), states, torch.zeros(7, dtype=torch.long))
    assert sum(kept) == 7 * 16


def test_half_precision_logits_are_normalised_in_float32() -> None:
    head, states = frozen().bfloat16(), torch.randn(3, 16).bfloat16()
    assert head_logprobs(head, states, torch.tensor([1, 2, 3])).dtype == torch.float32


def test_a_head_that_learns_gets_its_gradient() -> None:
    head = frozen().requires_grad_(True)
    head_logprobs(head, torch.randn(3, 16), torch.tensor([1, 2, 3])).sum().backward()
    assert head.weight.grad is not None
