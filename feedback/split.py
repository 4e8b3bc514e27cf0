"""Who is held out: raters for test, prompt clusters for the gates and the reports.

Salted hashes decide, so that a rater or a prompt is on the same side in every snapshot, whoever else is in it. The
salts are constants: the ids they mix are keyed hashes or content hashes already, and changing one would mix test rows
into training.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence

from feedback.rows import JUDGED, Row, Table
from infra.settings import FeedbackSettings

RATER_SALT, PROMPT_SALT, GROUP_SALT = "thumbwheel-rater-1", "thumbwheel-prompt-1", "thumbwheel-group-1"
RATER_GROUPS = 8
TRAIN, TEST, GATE, REPORT = "train", "test", "gate", "report"
Divided = dict[tuple[Table, str], list[Row]]


def fraction(salt: str, unit: str) -> float:
    """A number in [0, 1) that is the same for the same unit and salt."""
    digest = hashlib.sha256(f"{salt}\0{unit}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def rater_group(unit: str) -> str:
    """One of a few fixed groups of raters, for whoever must learn from some and be checked by others."""
    return f"g{int(fraction(GROUP_SALT, unit) * RATER_GROUPS)}"


def rater_split(unit: str, test_share: float) -> str:
    return TEST if fraction(RATER_SALT, unit) < test_share else TRAIN


def prompt_split(cluster: str, gate_share: float, report_share: float) -> str:
    """A cluster is a canonical prompt for now."""
    at = fraction(PROMPT_SALT, cluster)
    return REPORT if at < report_share else GATE if at < report_share + gate_share else TRAIN


def divide(rows: Sequence[Row], settings: FeedbackSettings) -> tuple[Divided, Counter[str]]:
    """Rows by table and split. What would let a held-out rater or prompt leak is dropped and counted."""
    divided: Divided = defaultdict(list)
    dropped: Counter[str] = Counter()
    for row in rows:
        cluster = prompt_split(row.prompt_id, settings.gate_share, settings.report_share)
        split = cluster if row.table is Table.PROMPTS else rater_split(row.unit, settings.test_share)
        if row.table in JUDGED and _held_out(split, cluster):
            dropped["held_out_prompt"] += 1
        else:
            divided[row.table, split].append(row)
    dropped["leaks_from_train"] = _drop_leaks(divided)
    return dict(divided), +dropped


def _held_out(split: str, cluster: str) -> bool:
    """Nothing learns from a report prompt, and no policy from a gate prompt; held-out raters may judge on those."""
    return cluster == REPORT or (cluster == GATE and split == TRAIN)


def _drop_leaks(divided: Divided) -> int:
    """Leaves no test row whose prompt or answer any train row has; returns how many it took."""
    train = [row for table in JUDGED for row in divided.get((table, TRAIN), ())]
    prompts = {row.prompt_id for row in train}
    texts = {digest for row in train for digest in row.digests}
    before = after = 0
    for table in JUDGED:
        test = divided.get((table, TEST), [])
        kept = [row for row in test if row.prompt_id not in prompts and not row.digests & texts]
        before, after = before + len(test), after + len(kept)
        if test:
            divided[table, TEST] = kept
    return before - after
