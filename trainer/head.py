"""The language-model head's log-probabilities of given tokens, in pieces: memory does not grow with the vocabulary.

The head is frozen and every position has one number to its loss, so that the gradient towards a position's state is
that number times what is known in the forward already: d log p(t) / d state = W[t] - sum_v p(v) W[v]. Two matrix
products, as many as a forward and backward that would keep all logits.
"""

from typing import Any

import torch
from torch import Tensor, nn

from trainer.losses.tokens import token_logprobs

FLOATS_PER_PIECE = {"cpu": 1 << 21, "cuda": 1 << 27}  # of logits; on a CPU they should stay in its caches


def head_logprobs(head: nn.Module, states_NH: Tensor, tokens_N: Tensor) -> Tensor:
    """[N] in float32: log softmax(head(state)) at the token. No gradient reaches the head's own weights."""
    if not isinstance(head, nn.Linear) or head.weight.requires_grad:
        return token_logprobs(head(states_NH), tokens_N)
    found: Tensor = _FrozenHead.apply(states_NH, tokens_N, head.weight, head.bias)  # type: ignore[no-untyped-call]  # torch's own
    return found


class _FrozenHead(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states_NH: Tensor, tokens_N: Tensor, weight_VH: Tensor, bias_V: Tensor | None) -> Tensor:
        rows = max(1, FLOATS_PER_PIECE.get(states_NH.device.type, 1 << 25) // len(weight_VH))
        wanted = ctx.needs_input_grad[0]
        logps, slopes = [], []
        for states, tokens in zip(states_NH.split(rows), tokens_N.split(rows), strict=True):
            logits = nn.functional.linear(states, weight_VH, bias_V).float()
            total_1 = logits.logsumexp(-1, keepdim=True)
            logps.append((logits.gather(-1, tokens[:, None]) - total_1)[:, 0])
            if wanted:
                probabilities = logits.sub_(total_1).exp_().to(weight_VH.dtype)
                slopes.append(weight_VH[tokens] - probabilities @ weight_VH)
        if wanted:
            ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(logps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (slopes_NH,) = ctx.saved_tensors
        return (gradients[0][:, None] * slopes_NH).to(slopes_NH.dtype), None, None, None
