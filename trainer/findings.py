"""What is wrong with the rows of a training, in words; refused, or kept beside the result as warnings."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

import structlog

from trainer.errors import StageFailed

log = structlog.get_logger()


class Kind(StrEnum):
    FEW_ROWS = "few_rows"
    ALL_TIES = "all_ties"
    MOSTLY_TIES = "mostly_ties"
    ONE_RATER = "one_rater"
    FEW_RATERS = "few_raters"
    ONE_PROMPT = "one_prompt"
    FEW_PROMPTS = "few_prompts"
    CONTRADICTORY = "contradictory"
    SAME_ANSWERS = "same_answers"
    ONE_LABEL = "one_label"
    LOPSIDED = "lopsided"
    EMPTY_ANSWERS = "empty_answers"
    TOO_LONG = "too_long"
    NO_BETTER_THAN_A_COIN = "no_better_than_a_coin"
    SIZE_TOO_SMALL = "size_too_small"
    STOPPED_EARLY = "stopped_early"
    DRIFTED = "drifted"


class Severity(StrEnum):
    REFUSE = "refuse"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Finding:
    """`message` says what was found, in figures, and what to do about it."""

    kind: Kind
    severity: Severity
    message: str


Warnings = list[dict[str, str]]  # {kind, message}: JSON, as stages keep it

# Whoever trains on a file of their own may want just this; in a cycle it would reach everybody's assistant.
ONE_S_OWN = frozenset({Kind.FEW_ROWS, Kind.ONE_RATER, Kind.ONE_PROMPT})


def settled(findings: Iterable[Finding], *, tolerated: Collection[Kind] = ()) -> Warnings:
    """Logs and returns the warnings; raises StageFailed with every refusal that isn't tolerated."""
    known = [_tolerate(finding) if finding.kind in tolerated else finding for finding in findings]
    if refused := [finding.message for finding in known if finding.severity is Severity.REFUSE]:
        raise StageFailed("; ".join(refused))
    for finding in known:
        log.warning("data_doubted", kind=finding.kind, message=finding.message)
    return [{"kind": finding.kind.value, "message": finding.message} for finding in known]


def _tolerate(finding: Finding) -> Finding:
    return replace(finding, severity=Severity.WARN)


def stopped_early(what: str, reason: str | None) -> Warnings:
    """Of a training that ended before its last step; none of one that did not."""
    return [{"kind": Kind.STOPPED_EARLY.value, "message": f"{what}: {reason}"}] if reason else []


def drifted(texts: Iterable[str]) -> Warnings:
    """How a policy's manner changed while it was trained."""
    return [{"kind": Kind.DRIFTED.value, "message": text} for text in texts]
