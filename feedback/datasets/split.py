"""Who is held out: raters for test, prompt clusters (a canonical prompt, for now) for the gates and the reports.

Salted hashes decide, so that a rater or a prompt is on the same side in every snapshot, whoever else is in it. The
salts are constants: the ids they mix are keyed hashes or content hashes already, and changing one would mix test rows
into training.
"""

import hashlib
from functools import lru_cache

RATER_SALT, PROMPT_SALT, GROUP_SALT = "thumbwheel-rater-1", "thumbwheel-prompt-1", "thumbwheel-group-1"
RATER_GROUPS = 8
KNOWN = 100_000  # the same people and prompts come again and again
TRAIN, TEST, GATE, REPORT = "train", "test", "gate", "report"


@lru_cache(KNOWN)
def fraction(salt: str, unit: str) -> float:
    """A number in [0, 1) that is the same for the same unit and salt."""
    digest = hashlib.sha256(f"{salt}\0{unit}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def rater_group(unit: str) -> str:
    """One of a few fixed groups of raters, for whoever must learn from some and be checked by others."""
    return f"g{int(fraction(GROUP_SALT, unit) * RATER_GROUPS)}"
