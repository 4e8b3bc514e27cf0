"""Objectives on judgements of answers that are there already: reward models, DPO, IPO, KTO.

All return one loss per row, for `weighted_mean`. What DPO and its kin call a ratio is the answer's
log pi(y | x) - log pi_reference(y | x), summed over its tokens.
"""

import torch
from torch import Tensor
from torch.nn import functional


def bradley_terry(margins_B: Tensor, log_tie: Tensor | None = None, *, asked_B: Tensor | float = 0.0) -> Tensor:
    """-log P(first wins), margins = score(first) - score(second). Bradley & Terry 1952, 10.2307/2334029.

    `asked_B` is by how much the first score is to be above the second, more for a stronger preference: Touvron et al.
    2023, arXiv 2307.09288, equation 2. TRL takes it from the column `margin`.

    `log_tie` is Davidson's log nu (1970, 10.1080/01621459.1970.10481082): P(win) = e^{m/2} / (e^{m/2} + e^{-m/2} + nu).
    None means that ties can't happen (nu = 0).
    """
    margins_B = margins_B - asked_B
    if log_tie is None:
        return -functional.logsigmoid(margins_B)
    return _davidson_normaliser(margins_B, log_tie) - margins_B / 2


def tie_loss(margins_B: Tensor, log_tie: Tensor) -> Tensor:
    """-log P(tie) under Davidson's model: nu / (e^{m/2} + e^{-m/2} + nu)."""
    return _davidson_normaliser(margins_B, log_tie) - log_tie


def centring_loss(first_B: Tensor, second_B: Tensor) -> Tensor:
    """(score(first) + score(second))^2, since choices fix differences only. Eisenstein et al. 2023, arXiv 2312.09244,
    equation 2, whose eta TRL calls `center_rewards_coefficient`."""
    return (first_B + second_B).square()


def dpo_loss(chosen_B: Tensor, rejected_B: Tensor, *, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """-log sigmoid(beta * (chosen - rejected)), of ratios. Rafailov et al. 2023, arXiv 2305.18290, equation 7.

    `label_smoothing` is how often a choice is believed to be wrong: the loss is then the expected one ("conservative
    DPO", Mitchell 2023, https://ericmitchell.ai/cdpo.pdf, equation 3).
    """
    logits_B = beta * (chosen_B - rejected_B)
    right_B, wrong_B = -functional.logsigmoid(logits_B), -functional.logsigmoid(-logits_B)
    return (1 - label_smoothing) * right_B + label_smoothing * wrong_B


def ipo_loss(chosen_B: Tensor, rejected_B: Tensor, *, beta: float) -> Tensor:
    """(chosen - rejected - 1 / (2 beta))^2. Azar et al. 2023, arXiv 2310.12036, equation 17 with tau = beta.

    Ratios are means over the answer's tokens here, or the target would depend on lengths; TRL does the same.
    """
    return (chosen_B - rejected_B - 1 / (2 * beta)).square()


def kto_loss(ratios_B: Tensor, liked_B: Tensor, reference_point: Tensor, *, beta: float) -> Tensor:
    """1 - v(x, y) with lambda = 1. Ethayarajh et al. 2024, arXiv 2402.01306, equation 8.

    The value is sigmoid(beta * (ratio - z)) for a liked answer and sigmoid(beta * (z - ratio)) for another; z, the
    `reference_point`, is an estimate of KL(policy || reference) that carries no gradient: see `kto_reference_point`.
    The paper's lambdas are weights of rows.
    """
    gains_B = torch.where(liked_B, ratios_B - reference_point, reference_point - ratios_B)
    return 1 - torch.sigmoid(beta * gains_B)


def kto_reference_point(mismatched_ratios_B: Tensor) -> Tensor:
    """max(0, mean), from ratios of answers to prompts that they do not belong to: the paper's section 3.3."""
    return mismatched_ratios_B.mean().clamp(min=0).detach()


def kto_weights(liked_B: Tensor, weights_B: Tensor) -> tuple[float, float]:
    """(desirable, undesirable) factors by which both kinds of row weigh the same in sum; 1 where one kind is missing.

    The paper asks for lambda_D n_D / (lambda_U n_U) between 1 and 4/3 (equation 9); the larger one is 1 here.
    """
    liked, disliked = float(weights_B[liked_B].sum()), float(weights_B[~liked_B].sum())
    if liked == 0 or disliked == 0:
        return 1.0, 1.0
    return min(1.0, disliked / liked), min(1.0, liked / disliked)


def _davidson_normaliser(margins_B: Tensor, log_tie: Tensor) -> Tensor:
    sides = torch.stack([margins_B / 2, -margins_B / 2, log_tie.expand_as(margins_B)])
    return sides.logsumexp(0)
