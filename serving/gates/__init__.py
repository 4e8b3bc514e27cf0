"""Gates: pure functions from evidence and settings to verdicts. One file each; `OWN` is their order in a report.

A verdict compares a whole interval with a threshold. Blocking gates can say no; the others advise. `catalogue.py` adds
the gates of other packages, and says what settings make of each.
"""

from collections.abc import Mapping

from serving.gates import judge, kl, length, regression, reward_accuracy, style, validity
from serving.gates.subject import Gate

OWN: Mapping[str, Gate] = {
    "validity": validity.check,
    "regression": regression.check,
    "kl_anchor": kl.check_anchor,
    "kl_champion": kl.check_champion,
    "length": length.check,
    "style": style.check,
    "judge": judge.check,
    "reward_accuracy": reward_accuracy.check,
}
