"""A weighing policy with the product's defaults, and masses to weigh."""

from typing import Any

import numpy as np

from feedback.datasets.influence import policy_of
from feedback.weighing.weights import Mass, Policy
from infra.settings import FeedbackSettings


def make_policy(**overrides: Any) -> Policy:
    """Overrides are settings of the feedback room."""
    return policy_of(FeedbackSettings(**overrides))


def make_mass(rater_N: Any, *, segment_N: Any = None, prompt_N: Any = None, mass_N: Any = None) -> Mass:
    """Each judgement weighs 1 and is on a prompt of its own, unless told otherwise."""
    who = np.asarray(rater_N, dtype=np.int64)
    prompts = np.arange(len(who)) if prompt_N is None else np.asarray(prompt_N, dtype=np.int64)
    where = np.zeros(len(who), dtype=np.int64) if segment_N is None else np.asarray(segment_N, dtype=np.int64)
    mass = np.ones(len(who)) if mass_N is None else np.asarray(mass_N, dtype=np.float64)
    return Mass(who, where, prompts, mass, int(prompts.max(initial=-1)) + 1)
