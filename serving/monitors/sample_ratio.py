"""Are raters in the arms as the shares say? If not, something else than the draw decides who meets whom.

Lindon and Malek, Anytime-valid inference for multinomial count data, NeurIPS 2022 (arXiv 2011.03567): the draws' chance
under a Beta mixture over their chance under the stated shares is an e-process. Exact, for any number of raters.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln, xlogy

from infra.contracts.manifests import Verdict
from infra.contracts.rollouts import Finding
from serving.monitors.columns import Columns, Floats, Mask
from serving.monitors.subject import Subject

CONCENTRATION = 100.0  # how many raters the mixture's belief in the stated share is worth


@dataclass(frozen=True, slots=True)
class Draws:
    """Of each row that was drawn by chance: the chance of the challenger, and whether it was drawn.

    `moved` rows contradict an earlier step, as when a gateway fell back on the champion.
    """

    chance_R: Floats
    challenger_R: Mask
    moved: int

    def counts(self) -> str:
        wanted, found = self.chance_R.sum(), int(self.challenger_R.sum())
        return f"{found} of {len(self.chance_R)} draws were the challenger's, {wanted:.1f} were expected"


def check_assignment(subject: Subject) -> Finding:
    """Raters by arm, against the shares."""
    draws = draws_of(subject.canary)
    moved = f"; {draws.moved} raters changed arms" if draws.moved else ""
    return _finding(subject, "assignment", draws, 1.0, moved)


def check_voting(subject: Subject) -> Finding:
    """Voters by arm: where one arm's raters vote more, those who vote are not those who were drawn."""
    odds = subject.limits.voting_odds
    draws = draws_of(subject.canary.where(subject.canary.votes_R > 0))
    return _finding(subject, "voting", draws, odds, f" of those who vote; odds may differ by {odds:g}")


def draws_of(rows: Columns) -> Draws:
    """A rater has one place in [0, 1) for the whole rollout: later steps only tell what earlier ones left open."""
    rows = rows.where(_first_of_step(rows))
    chance_R, open_R = np.zeros(len(rows.unit_R)), np.zeros(len(rows.unit_R), np.bool_)
    lo_U, hi_U = np.zeros(int(rows.unit_R.max(initial=0)) + 1), np.ones(int(rows.unit_R.max(initial=0)) + 1)
    moved = 0
    for step in np.unique(rows.step_R):
        here_R = rows.step_R == step
        unit_H, share_H, challenger_H = rows.unit_R[here_R], rows.share_R[here_R], rows.challenger_R[here_R]
        lo_H, hi_H = lo_U[unit_H], hi_U[unit_H]
        chance_H = (np.clip(share_H, lo_H, hi_H) - lo_H) / (hi_H - lo_H)
        moved_H = np.where(challenger_H, chance_H <= 0, chance_H >= 1)
        moved += int(moved_H.sum())
        chance_R[here_R], open_R[here_R] = chance_H, (chance_H > 0) & (chance_H < 1)
        hi_U[unit_H] = np.where(challenger_H & ~moved_H, np.minimum(hi_H, share_H), hi_H)
        lo_U[unit_H] = np.where(~challenger_H & ~moved_H, np.maximum(lo_H, share_H), lo_H)
    return Draws(chance_R[open_R], rows.challenger_R[open_R], moved)


def log_e(chance_R: Floats, challenger_R: Mask, *, odds: float = 1.0) -> float:
    """Logarithm of the evidence against these chances, and against all whose odds differ by a factor up to `odds`.

    Each chance has a mixture of its own; their product is an e-process since each draw multiplies one of them.
    """
    chance_G, group_R = np.unique(chance_R, return_inverse=True)
    drawn_G = np.bincount(group_R, minlength=len(chance_G)).astype(np.float64)
    found_G = np.bincount(group_R, challenger_R, minlength=len(chance_G))
    most_G = chance_G * odds / (1 - chance_G + chance_G * odds)
    least_G = chance_G / (chance_G + (1 - chance_G) * odds)
    null_G = np.clip(found_G / np.maximum(drawn_G, 1), least_G, most_G)
    a_G, b_G = CONCENTRATION * chance_G, CONCENTRATION * (1 - chance_G)
    mixed_G = betaln(a_G + found_G, b_G + drawn_G - found_G) - betaln(a_G, b_G)
    return float((mixed_G - xlogy(found_G, null_G) - xlogy(drawn_G - found_G, 1 - null_G)).sum())


def _finding(subject: Subject, name: str, draws: Draws, odds: float, remark: str) -> Finding:
    alpha, evidence = subject.limits.alpha_of(name), log_e(draws.chance_R, draws.challenger_R, odds=odds)
    few = len(draws.chance_R) < subject.limits.min_raters
    verdict = Verdict.INCONCLUSIVE if few else Verdict.PASS
    return Finding(
        name=name,
        verdict=Verdict.FAIL if evidence >= -math.log(alpha) else verdict,
        threshold=alpha,
        reason=f"{draws.counts()}{remark}; p = {math.exp(min(0.0, -evidence)):.3g}, which may not fall to {alpha:.2g}",
    )


def _first_of_step(rows: Columns) -> Mask:
    """A rater who was in both arms of a step counts where it came first."""
    key_R = rows.unit_R * (int(rows.step_R.max(initial=0)) + 1) + rows.step_R
    place_R = np.arange(len(key_R))
    first_K = np.zeros(int(key_R.max(initial=0)) + 1, np.int64)
    first_K[key_R[::-1]] = place_R[::-1]
    is_first_R: Mask = first_K[key_R] == place_R
    return is_first_R
