"""Gates: pure functions from evidence and settings to verdicts. One file each; `OWN` is their order in a report.

A verdict compares a whole interval with a threshold. Blocking gates can say no; the others advise. `catalogue.py` adds
the gates of other packages, and says what settings make of each.
"""

from collections.abc import Mapping

from serving.gates import (
    cases,
    judge,
    kl,
    length,
    off_policy,
    perplexity,
    regression,
    reward_accuracy,
    segments,
    style,
    validity,
)
from serving.gates.subject import Gate

OWN: Mapping[str, Gate] = {
    "validity": validity.check,
    "regression": regression.check,
    "canary": cases.check_canary,
    "safety": cases.check_safety,
    "kl_anchor": kl.check_anchor,
    "kl_champion": kl.check_champion,
    "length": length.check,
    "style": style.check,
    "judge": judge.check,
    "judge_segments": segments.check_judge,
    "reward_segments": segments.check_reward,
    "reward_accuracy": reward_accuracy.check,
    "perplexity": perplexity.check,
    "off_policy": off_policy.check,
}
