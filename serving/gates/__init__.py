"""Gates: pure functions from evidence and settings to verdicts. One file each; `GATES` is their order in a report.

A verdict compares a whole interval with a threshold. Blocking gates can say no; the others advise.
"""

from serving.gates import judge, kl, length, off_policy, regression, reward_accuracy, style, validity
from serving.gates.subject import Gate

GATES: tuple[Gate, ...] = (
    validity.check,
    regression.check,
    kl.check_anchor,
    kl.check_champion,
    length.check,
    style.check,
    judge.check,
    reward_accuracy.check,
    off_policy.check,
)
