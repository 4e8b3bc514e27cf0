"""Which method suits what a dataset holds: the rule behind `trainer.method = auto`, a function and its reasons.

- Lone thumbs that say more than the pairs, one pair being worth two of them (Ethayarajh et al. 2024, arXiv 2402.01306,
  section 4: KTO on pairs split in two is as good as DPO on the pairs): KTO.
- Pairs of answers that the champion wouldn't give any more: samples of its own against a reward model do better than a
  loss on the pairs (Tajwar et al. 2024, arXiv 2404.14367; Xu et al. 2024, arXiv 2404.10719).
- Fewer than about 2,000 comparisons: reward models of any size are hardly better than chance (Gao et al. 2022, arXiv
  2210.10760, section 3.3), and are soon fooled: fresh pairs go to DPO, which needs none.
- In any case a reward model is leaned on only where it was seen to tell held-out raters' choices apart.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from infra.contracts.manifests import Interval

COIN = 0.5
FRESH = 0.5  # most of the pairs
ENOUGH_FOR_REWARD = 2_000
THUMBS_PER_PAIR = 2
RARER_LABEL = 0.1  # see trainer.checks
RL = "grpo"  # needs neither PPO's second model nor as much tuning; whoever wants PPO or RLOO says so


@dataclass(frozen=True, slots=True)
class Holdings:
    """What there is to learn from. `pairs` and thumbs are those that this policy has not learnt from yet.

    `fresh` is the share of pairs whose answers are the champion's own, None where nobody knows who wrote them;
    `accuracy` the reward model's on held-out raters, None where there is none, or nobody to measure it on.
    """

    pairs: int
    up: int
    down: int
    prompts: int
    fresh: float | None
    accuracy: Interval | None


@dataclass(frozen=True, slots=True)
class Proposal:
    method: str
    reason: str


def propose(held: Holdings) -> Proposal:
    if (lone := _lone(held)) is not None:
        return Proposal("kto", lone)
    if (unfit := _unfit(held)) is not None:
        return Proposal("dpo", f"{held.pairs} pairs, and {unfit}")
    accuracy = held.accuracy.value if held.accuracy else 0.0
    leaned_on = f"the reward model is right on {accuracy:.0%} of held-out choices"
    if held.fresh is None or held.fresh < FRESH:
        whose = "of unknown writers" if held.fresh is None else f"of which {held.fresh:.0%} are the champion's own"
        return Proposal(RL, f"{held.pairs} pairs {whose}: stale ones teach best through samples, and {leaned_on}")
    if held.pairs < ENOUGH_FOR_REWARD:
        return Proposal("dpo", f"{held.pairs} pairs, {held.fresh:.0%} fresh: too few to lean on a reward model")
    return Proposal(RL, f"{held.pairs} pairs, {held.fresh:.0%} fresh, and {leaned_on}")


def freshness(rows: Iterable[Mapping[str, Any]], champion: str) -> float | None:
    """The share by weight of pairs whose policy-written sides are all the champion's; a person's own text is nobody's.

    Rows are as the dataset has them: `versions` names who wrote each side.
    """
    known = [(_writers(row), row["weight"]) for row in rows]
    told = [(writers, weight) for writers, weight in known if writers]
    total = sum(weight for _, weight in told)
    return sum(weight for writers, weight in told if writers == {champion}) / total if total else None


def _writers(row: Mapping[str, Any]) -> set[str]:
    return {version for version in (row.get("versions") or {}).values() if version}


def _lone(held: Holdings) -> str | None:
    """Why thumbs are what to learn from, None where they aren't."""
    thumbs = held.up + held.down
    if min(held.up, held.down) < max(1, RARER_LABEL * thumbs) or thumbs <= THUMBS_PER_PAIR * held.pairs:
        return None
    return f"{thumbs} lone thumbs ({held.up} up) say more than {held.pairs} pairs"


def _unfit(held: Holdings) -> str | None:
    """Why there is nothing to lean on but the pairs themselves."""
    if not held.prompts:
        return "no prompts to sample from"
    if held.accuracy is None:
        return "no reward model that was measured on held-out raters"
    if held.accuracy.lo <= COIN:
        return f"a reward model no better than a coin ({held.accuracy.lo:.0%} to {held.accuracy.hi:.0%} right)"
    return None
