"""Style control: how an answer looks explains choices beside its score, so that the score need not.

As the Chatbot Arena's "style control" (Li, Angelopoulos and Chiang 2024, https://lmsys.org/blog/2024-08-28-style-control):
relative differences of length, headers, lists and bold are covariates of a pair's margin. What was changed: they are
scaled but not centred, since which of two answers comes first means nothing here. Scores themselves never see them.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn

CODE = re.compile(r"```.*?(```|\Z)", re.DOTALL)  # a comment in code is no header
MARKS = {
    "headers": re.compile(r"^#{1,6}\s", re.MULTILINE),
    "lists": re.compile(r"^\s*(?:[-*+]|\d+[.)])\s", re.MULTILINE),
    "bold": re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__"),
}
COVARIATES = ("length", *MARKS)
PRIOR_DEVIATION = 3.0  # of a coefficient, in log-odds: without it, raters who always take the longer one have none
STEPS = 50


class StyleControl(nn.Module):
    """One coefficient per covariate, in log-odds per standard deviation of the difference."""

    scale_S: Tensor

    def __init__(self, differences_PS: Tensor, weights_P: Tensor) -> None:
        """Begins where style alone explains the choices best: scores learn what is left."""
        super().__init__()
        deviations_S = differences_PS.square().mean(0).sqrt()
        self.register_buffer("scale_S", torch.where(deviations_S > 0, deviations_S, 1.0))
        self.coefficients_S = nn.Parameter(_explaining(differences_PS / self.scale_S, weights_P))

    def forward(self, differences_PS: Tensor) -> Tensor:
        """[P], in log-odds of the first answer being preferred."""
        return (differences_PS / self.scale_S) @ self.coefficients_S

    def report(self) -> dict[str, float]:
        return dict(zip(COVARIATES, self.coefficients_S.detach().tolist(), strict=True))


def style_difference(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
    """(a - b) / (a + b) of each covariate: between -1 and 1, 0 where neither has any."""
    return tuple((a - b) / (a + b) if a + b else 0.0 for a, b in zip(first, second, strict=True))


def style_of(message: Mapping[str, Any], tokens: int) -> tuple[float, ...]:
    """How much of each covariate an answer of so many tokens has."""
    text = CODE.sub("", str(message.get("content") or ""))
    return (float(tokens), *(float(len(mark.findall(text))) for mark in MARKS.values()))


def _explaining(covariates_PS: Tensor, weights_P: Tensor) -> Tensor:
    """Newton's method on the weighted likelihood of "the first wins" with a normal prior; strict choices only."""
    z_PS, w_P = (tensor.double().cpu().numpy() for tensor in (covariates_PS, weights_P))
    found_S = np.zeros(z_PS.shape[1])
    precision = np.eye(len(found_S)) / PRIOR_DEVIATION**2
    for _ in range(STEPS):
        wrong_P = w_P * expit(-z_PS @ found_S)
        slope_S = z_PS.T @ wrong_P - precision @ found_S
        curvature = (z_PS * (wrong_P * expit(z_PS @ found_S))[:, None]).T @ z_PS + precision
        step_S = np.linalg.solve(curvature, slope_S)
        found_S += step_S
        if np.abs(step_S).max() < 1e-9:
            break
    return torch.tensor(found_S, dtype=covariates_PS.dtype, device=covariates_PS.device)
