"""From logits to log-probabilities, and the sums and means that every objective takes of them."""

from torch import Tensor


def token_logprobs(logits_NV: Tensor, tokens_N: Tensor) -> Tensor:
    """log p(token) at each of N positions; no V-sized result is kept."""
    logits_NV = logits_NV.float()
    return logits_NV.gather(-1, tokens_N[:, None])[:, 0] - logits_NV.logsumexp(-1)


def masked_sum(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Per answer."""
    return (values_BT * mask_BT).sum(-1)


def masked_mean(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Over all tokens of the batch; 0 where the mask is empty."""
    return (values_BT * mask_BT).sum() / mask_BT.sum().clamp(min=1)


def masked_variance(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Over all tokens of the batch, divided by their number less one; 0 where there are fewer than two."""
    centred_BT = values_BT - masked_mean(values_BT, mask_BT)
    return (centred_BT.square() * mask_BT).sum() / (mask_BT.sum() - 1).clamp(min=1)


def weighted_mean(losses_B: Tensor, weights_B: Tensor, weighing: float | None = None) -> Tensor:
    """sum(w * l) / sum(w); `weighing` is that last sum of a larger batch, of which these are a part."""
    total = weights_B.sum().clamp(min=1e-12) if weighing is None else weighing
    return (losses_B * weights_B).sum() / total
