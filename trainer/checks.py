"""Data that can teach nothing, or nothing that should be learnt: each check is a function of rows, told in figures.

They ask for the least that any training needs; how much is enough, `trainer.min_pairs` and the gates say. No rows at
all are no finding: every method says so itself.
"""

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

from infra.contracts.manifests import Interval
from infra.sizes import MEANT_FOR, MOST_PARAMETERS, Size
from trainer.data import Demonstration, Message, Preference, Prompt, Tie, Unpaired
from trainer.findings import Finding, Kind, Severity

LEAST_RATERS = 2.0  # below it one person outweighs all others together
FEW_RATERS = 5.0  # one rater in five is held out (feedback.test_share): of fewer, often nobody
LEAST_PROMPTS = 2.0
FEW_PROMPTS = 10.0  # each has a tenth of all the weight: what is learnt is these prompts
CANCELLED_BY_COINS = 0.5  # of two coins' votes on one question half cancel out; of more votes, more
CANCELLED_BY_PEOPLE = 0.27  # labellers agree in 73% of what two are asked: arXiv 2203.02155, section 3.4
HALF = 0.5  # where most rows are of no use, what is left was selected by the fault, not by anyone's taste
RARER_LABEL = 0.1  # KTO was shown to bear the loss of nine good rows in ten, not of more: arXiv 2402.01306

Opinion = tuple[Hashable, bool, float]  # what was asked, which way it was answered, with what weight


def check_pairs(pairs: Sequence[Preference], ties: Sequence[Tie] = ()) -> list[Finding]:
    """What speaks against learning from these choices."""
    if not pairs:
        return _all_ties(len(ties))
    asked = [_asked(pair.prompt) for pair in pairs]
    opinions = [opinion for opinion in map(_choice, asked, pairs) if opinion is not None]
    found = (
        _same_answers(len(pairs) - len(opinions), len(pairs)),
        _contradictions("pairs", opinions),
        _raters("pairs", [(pair.rater, pair.weight) for pair in pairs]),
        _prompts(asked, [pair.weight for pair in pairs]),
        _empty("pairs", [_is_empty(pair.chosen) or _is_empty(pair.rejected) for pair in pairs]),
        _mostly_ties(len(pairs), len(ties)),
    )
    return [finding for finding in found if finding]


def check_thumbs(thumbs: Sequence[Unpaired]) -> list[Finding]:
    """What speaks against learning from these thumbs."""
    if not thumbs:
        return []
    asked = [_asked(row.prompt) for row in thumbs]
    opinions = [
        ((prompt, _text(row.completion)), row.label, row.weight) for prompt, row in zip(asked, thumbs, strict=True)
    ]
    found = (
        _labels(sum(row.label for row in thumbs), len(thumbs)),
        _contradictions("thumbs", opinions),
        _raters("thumbs", [(row.rater, row.weight) for row in thumbs]),
        _prompts(asked, [row.weight for row in thumbs]),
        _empty("thumbs", [_is_empty(row.completion) for row in thumbs]),
    )
    return [finding for finding in found if finding]


def check_demonstrations(rows: Sequence[Demonstration]) -> list[Finding]:
    """What speaks against imitating these."""
    found = (
        _prompts([_asked(row.prompt) for row in rows], [row.weight for row in rows]),
        _empty("demonstrations", [_is_empty(row.completion) for row in rows]),
    )
    return [finding for finding in found if finding]


def check_prompts(prompts: Sequence[Prompt]) -> Finding | None:
    """Whether there is more than one question to ask a policy."""
    return _prompts([_asked(prompt) for prompt in prompts], [1.0] * len(prompts))


def check_number(rows: int, least: int, what: str, setting: str) -> Finding | None:
    """Whether a training should begin at all."""
    if rows >= least:
        return None
    message = f"there are {rows} {what} to train on, {setting} asks for {least}: so few can't tell a taste from chance"
    return Finding(Kind.FEW_ROWS, Severity.REFUSE, message)


def check_lengths(tokens: Sequence[int], longest: int) -> Finding | None:
    """Of prompt and answer together: what is longer is left out by every method, rather than cut."""
    over = [length for length in tokens if length > longest]
    message = (
        f"{len(over)} of {len(tokens)} rows looked at are longer than trainer.max_length ({longest} tokens; the longest"
        f" has {max(tokens, default=0)}) and left out: raise it, or find out where such answers come from"
    )
    return _by_share(Kind.TOO_LONG, len(over), len(tokens), message)


def check_room(kept: int, prompts: int) -> Finding | None:
    """Of prompts to sample from."""
    if kept == prompts:
        return None
    message = (
        f"{prompts - kept} of {prompts} prompts leave no room for an answer of trainer.policy_max_new_tokens and are"
        " left out: long conversations are learnt from less"
    )
    return Finding(Kind.TOO_LONG, Severity.WARN, message)


def check_size(parameters: int, size: Size) -> Finding | None:
    """Rates meant for smaller bases make a large one forget; the other way round it merely learns little."""
    if parameters <= MOST_PARAMETERS[size]:
        return None
    message = (
        f"the base has {parameters / 1e9:.2g} B parameters, and trainer.size={size} is meant for {MEANT_FOR[size]}: its"
        " learning rates may be too high"
    )
    return Finding(Kind.SIZE_TOO_SMALL, Severity.WARN, message)


def check_accuracy(accuracy: Interval | None) -> Finding | None:
    """Whether held-out raters' choices are known to be more than coin flips to the reward model."""
    if accuracy is None or accuracy.lo > HALF:
        return None
    message = (
        f"the reward model finds {accuracy.value:.0%} of held-out raters' choices ({accuracy.lo:.0%} to"
        f" {accuracy.hi:.0%}, {accuracy.n} raters), as a coin might: what it rewards may be noise; collect more votes,"
        " and see with check questions how careful they are"
    )
    return Finding(Kind.NO_BETTER_THAN_A_COIN, Severity.WARN, message)


def effective(weights: Iterable[float]) -> float:
    """As how many of equal weight these count: (sum w)^2 / sum w^2 (Kish 1965, Survey Sampling)."""
    known = [weight for weight in weights if weight > 0]
    return sum(known) ** 2 / sum(weight**2 for weight in known) if known else 0.0


def _all_ties(ties: int) -> list[Finding]:
    message = f"all {ties} comparisons are ties: they say that answers are alike, not which to prefer; ask about others"
    return [Finding(Kind.ALL_TIES, Severity.REFUSE, message)] if ties else []


def _mostly_ties(pairs: int, ties: int) -> Finding | None:
    if ties <= pairs:
        return None
    message = f"{ties} ties stand beside {pairs} choices: raters see little difference; ask about answers that differ"
    return Finding(Kind.MOSTLY_TIES, Severity.WARN, message)


def _raters(what: str, rows: Sequence[tuple[str, float]]) -> Finding | None:
    """By weight. Rows that name nobody are taken for one person's each."""
    by_rater: dict[Hashable, float] = defaultdict(float)
    for place, (rater, weight) in enumerate(rows):
        by_rater[rater or place] += weight
    number = effective(by_rater.values())
    said = f"{len(rows)} {what} are by {len(by_rater)} raters, by weight as good as {number:.1f}"
    if number >= FEW_RATERS:
        return None
    if number < LEAST_RATERS:
        return Finding(Kind.ONE_RATER, Severity.REFUSE, f"{said}: one taste would become everybody's; ask more people")
    return Finding(Kind.FEW_RATERS, Severity.WARN, f"{said}: too few to hold some out and measure on them")


def _contradictions(what: str, opinions: Sequence[Opinion]) -> Finding | None:
    """How much of the weight opposite answers to the same question take from each other."""
    both_ways: dict[Hashable, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for asked, way, weight in opinions:
        both_ways[asked][way] += weight
    total = sum(sum(ways) for ways in both_ways.values())
    share = sum(2 * min(ways) for ways in both_ways.values()) / total if total else 0.0
    if share <= CANCELLED_BY_PEOPLE:
        return None
    split = sum(min(ways) > 0 for ways in both_ways.values())
    said = (
        f"opposite votes on the same answers ({split} of {len(both_ways)} questions) cancel {share:.0%} of all {what}"
    )
    if share >= CANCELLED_BY_COINS:
        message = f"{said}, as coins would: look who votes, and what they are asked"
        return Finding(Kind.CONTRADICTORY, Severity.REFUSE, message)
    return Finding(Kind.CONTRADICTORY, Severity.WARN, f"{said}: people agree more often than that")


def _prompts(asked: Sequence[str], weights: Sequence[float]) -> Finding | None:
    """Whether it is one question over and over."""
    by_prompt: dict[str, float] = defaultdict(float)
    for prompt, weight in zip(asked, weights, strict=True):
        by_prompt[prompt] += weight
    number = effective(by_prompt.values())
    said = f"{len(asked)} rows ask {len(by_prompt)} different prompts, by weight as good as {number:.1f}"
    if not asked or number >= FEW_PROMPTS:
        return None
    if number < LEAST_PROMPTS:
        return Finding(Kind.ONE_PROMPT, Severity.REFUSE, f"{said}: one question teaches one answer; collect others")
    return Finding(Kind.FEW_PROMPTS, Severity.WARN, f"{said}: what is learnt may hold for these alone")


def _choice(asked: str, pair: Preference) -> Opinion | None:
    """None where both answers are the same: that asks nothing."""
    chosen, rejected = _text(pair.chosen), _text(pair.rejected)
    return None if chosen == rejected else ((asked, frozenset((chosen, rejected))), chosen < rejected, pair.weight)


def _same_answers(same: int, pairs: int) -> Finding | None:
    message = f"{same} of {pairs} pairs have the same text on both sides, which teaches nothing: leave them out"
    return _by_share(Kind.SAME_ANSWERS, same, pairs, message)


def _labels(liked: int, thumbs: int) -> Finding | None:
    rarer = min(liked, thumbs - liked)
    said = f"{liked} of {thumbs} thumbs are up, {thumbs - liked} down"
    if not rarer:
        message = f"{said}: nothing says what to avoid" if liked else f"{said}: nothing says what to do"
        return Finding(Kind.ONE_LABEL, Severity.REFUSE, f"{message}; collect thumbs of the other kind, or choices")
    if rarer < RARER_LABEL * thumbs:
        return Finding(
            Kind.LOPSIDED, Severity.WARN, f"{said}: the rarer kind weighs as much in sum, so each of it a lot"
        )
    return None


def _empty(what: str, empty: Sequence[bool]) -> Finding | None:
    message = f"{sum(empty)} of {len(empty)} {what} have an empty answer: find out why they were empty"
    return _by_share(Kind.EMPTY_ANSWERS, sum(empty), len(empty), message)


def _by_share(kind: Kind, count: int, total: int, message: str) -> Finding | None:
    if not count:
        return None
    return Finding(kind, Severity.REFUSE if count > HALF * total else Severity.WARN, message)


def _asked(prompt: Prompt) -> str:
    """One string per conversation, tools included."""
    return json.dumps([list(prompt.messages), list(prompt.tools or ())], sort_keys=True)


def _text(answer: Message) -> str:
    content, calls = answer.get("content"), answer.get("tool_calls")
    return content if isinstance(content, str) and not calls else json.dumps([content, calls], sort_keys=True)


def _is_empty(answer: Message) -> bool:
    return not str(answer.get("content") or "").strip() and not answer.get("tool_calls")
