"""Puts the factors together: a row weighs what it says by itself times its rater's, its prompt's and its segment's.

Caps come last, so that they hold whatever came before: https://doi.org/10.1287/opre.30.1.139 (Nitzan and Paroush 1982)
gives an independent voter the log odds of being right; here an unknown rater weighs 1, who is right by chance nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logit

from feedback.weighing.agreement import alpha, effective_size, top_share
from feedback.weighing.calibration import AiPolicy, Calibration, calibrate, share_factor
from feedback.weighing.caps import cap_factors, spread
from feedback.weighing.networks import ALONE, find_networks
from feedback.weighing.opinions import Bools, Floats, Ints, Opinions, sums
from feedback.weighing.reliability import Prior, Reliability, estimate
from feedback.weighing.segments import segment_factors

NOBODY = -1  # the owner of what no cap of one rater is for


@dataclass(frozen=True, slots=True)
class Policy:
    """How reliability becomes weight, and what nobody may exceed. Caps are in judgements of an unknown rater."""

    prior: Prior
    rater_most: float
    rater_cap: float
    prompt_cap: float
    network_cap: float
    network_overlap: int
    segment_min: int
    segment_mix: Mapping[str, float]
    segment_most: float
    ai: AiPolicy


@dataclass(frozen=True)
class Mass:
    """N judgements that train, what each weighs by itself, and whose and on what it is, by place."""

    rater_N: Ints
    segment_N: Ints
    prompt_N: Ints
    mass_N: Floats
    prompts: int


@dataclass(frozen=True)
class Weights:
    """A row's factor is `rater_RS[rater, segment] * segment_S[segment] * prompt_P[prompt]`."""

    policy: Policy
    rater_RS: Floats
    segment_S: Floats
    prompt_P: Floats
    network_R: Ints
    capped_R: Floats  # the part of a rater's weight that the caps left
    reliability: Reliability
    calibration: Calibration
    report: Mapping[str, Any]

    def of(self, mass: Mass) -> Floats:
        """What each judgement weighs in the end."""
        factor_N = self.rater_RS[mass.rater_N, mass.segment_N] * self.segment_S[mass.segment_N]
        return factor_N * spread(self.prompt_P, mass.prompt_N) * mass.mass_N


def weigh(
    opinions: Opinions, mass: Mass, segments: list[str | None], policy: Policy, ai_R: Bools | None = None
) -> Weights:
    """`segments` names the places of segments; opinions and mass share the places of raters and segments.

    `ai_R` are the raters that are models. What people weigh does not depend on anything that a model said.
    """
    ai_R = np.zeros(opinions.raters, dtype=np.bool_) if ai_R is None else ai_R
    people = opinions.where(~ai_R[opinions.rater_N])
    reliability, calibration = trust(opinions, ai_R, policy)
    p_RS = np.where(np.isnan(reliability.p_RS), reliability.p_R[:, None], reliability.p_RS)
    trust_RS = np.where(ai_R[:, None], calibration.weight_R[:, None], rater_weight(p_RS, policy))
    trusted_N = trust_RS[mass.rater_N, mass.segment_N] * mass.mass_N
    segment_S = segment_factors(segments, mass.segment_N, trusted_N, policy.segment_mix, policy.segment_most)
    weight_N = trusted_N * segment_S[mass.segment_N]

    person_N = np.where(ai_R[mass.rater_N], NOBODY, mass.rater_N) if opinions.raters else mass.rater_N
    rater_R = cap_factors(person_N, weight_N, opinions.raters, policy.rater_cap)
    weight_N = weight_N * spread(rater_R, person_N)
    network_R = find_networks(people, overlap=policy.network_overlap)
    member_N = network_R[mass.rater_N] if opinions.raters else mass.rater_N
    network_K = cap_factors(member_N, weight_N, opinions.raters, policy.network_cap)
    weight_N = weight_N * spread(network_K, member_N)
    from_N = person_N >= 0
    models = share_factor(weight_N[from_N].sum(), weight_N[~from_N].sum(), policy.ai.share)
    weight_N = np.where(from_N, weight_N, models * weight_N)
    prompt_P = cap_factors(mass.prompt_N, weight_N, mass.prompts, policy.prompt_cap)
    weight_N = weight_N * spread(prompt_P, mass.prompt_N)

    capped_R = np.where(ai_R, models, rater_R * spread(network_K, network_R))
    report = _report(people, mass, weight_N, network_R, np.where(ai_R, np.nan, trust_RS.max(axis=1, initial=0.0)))
    return Weights(
        policy, trust_RS * capped_R[:, None], segment_S, prompt_P, network_R, capped_R, reliability, calibration,
        {**report, "ai_share": round(float(weight_N[~from_N].sum() / max(weight_N.sum(), 1e-12)), 4)},
    )  # fmt: skip


def trust(opinions: Opinions, ai_R: Bools, policy: Policy) -> tuple[Reliability, Calibration]:
    """People by each other, models by people."""
    people = opinions.where(~ai_R[opinions.rater_N])
    reliability = estimate(people, policy.prior, segment_min=policy.segment_min)
    return reliability, calibrate(opinions, ai_R, reliability.truth_I, policy.prior.mean, policy.ai)


def rater_weight(p: Floats, policy: Policy) -> Floats:
    """Never below 0: who is wrong more often than right is left out, not turned around."""
    return np.asarray(np.clip(logit(p) / logit(policy.prior.mean), 0.0, policy.rater_most))


def _report(opinions: Opinions, mass: Mass, weight_N: Floats, network_R: Ints, trust_R: Floats) -> dict[str, Any]:
    """`trust_R` is NaN for models: they are no raters here."""
    seen_R = (np.bincount(mass.rater_N, minlength=opinions.raters) > 0) & ~np.isnan(trust_R)
    mass_R = np.where(seen_R, sums(mass.rater_N, weight_N, opinions.raters), 0.0)
    agreement = alpha(opinions)
    return {
        "rows": len(weight_N),
        "effective_size": round(effective_size(weight_N), 1),
        "raters": int(seen_R.sum()),
        "raters_in": int((mass_R > 0).sum()),
        "raters_out": {"unreliable": int((seen_R & (trust_R == 0)).sum())},
        "networks": len(set(network_R[network_R != ALONE].tolist())),
        "raters_in_networks": int((network_R != ALONE).sum()),
        "krippendorff_alpha": None if agreement is None else round(agreement, 4),
        "top_1_percent_share": round(top_share(mass_R[seen_R]), 4),
    }
