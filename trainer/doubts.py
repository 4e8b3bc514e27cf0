"""All that speaks against training on some rows, their lengths included; a cycle and a training by itself ask here."""

from collections.abc import Sequence

from infra.settings import TrainerSettings
from trainer.batches import encode
from trainer.checks import (
    check_demonstrations,
    check_lengths,
    check_number,
    check_pairs,
    check_prompts,
    check_size,
    check_thumbs,
)
from trainer.data import Demonstration, Message, Preference, Prompt, Tie, Unpaired
from trainer.findings import ONE_S_OWN, Finding, Warnings, settled
from trainer.methods.policy import SAMPLING, PolicyContext
from trainer.model import Base
from trainer.warm_start import learns_from_pairs

LOOKED_AT = 2_000  # answers whose tokens are counted: a share among them is within two points of that among all


def about_pairs(base: Base, longest: int, pairs: Sequence[Preference], ties: Sequence[Tie] = ()) -> list[Finding]:
    answers = [(pair.prompt, answer) for pair in pairs for answer in (pair.chosen, pair.rejected)]
    return [*check_pairs(pairs, ties), *_about_lengths(base, longest, answers)]


def about_thumbs(base: Base, longest: int, thumbs: Sequence[Unpaired]) -> list[Finding]:
    return [*check_thumbs(thumbs), *_about_lengths(base, longest, [(row.prompt, row.completion) for row in thumbs])]


def about_demonstrations(base: Base, longest: int, rows: Sequence[Demonstration]) -> list[Finding]:
    return [*check_demonstrations(rows), *_about_lengths(base, longest, [(row.prompt, row.completion) for row in rows])]


def about_prompts(prompts: Sequence[Prompt]) -> list[Finding]:
    found = check_prompts(prompts)
    return [found] if found else []


def about_base(base: Base, settings: TrainerSettings) -> list[Finding]:
    found = check_size(base.model.num_parameters(), settings.size)
    return [found] if found else []


def doubts_alone(findings: Sequence[Finding]) -> Warnings:
    """For files of one's own: fewer rows than a cycle takes, one rater, one prompt are told, the rest is refused."""
    return settled(findings, tolerated=ONE_S_OWN)


def doubts_of(context: PolicyContext) -> Warnings:
    """Of what a policy is to learn from by itself, without a cycle. Raises StageFailed."""
    settings, base = context.settings, context.base
    found = about_base(base, settings)
    if learns_from_pairs(settings):
        found += [*_number(len(context.pairs), settings), *about_pairs(base, settings.max_length, context.pairs)]
    if settings.method == "kto":
        found += about_thumbs(base, settings.max_length, context.unpaired)
    if settings.method in SAMPLING:
        found += about_prompts(context.prompts)
    return doubts_alone(found)


def _number(pairs: int, settings: TrainerSettings) -> list[Finding]:
    found = check_number(pairs, settings.min_pairs, "preference pairs", "trainer.min_pairs")
    return [found] if found else []


def _about_lengths(base: Base, longest: int, answers: Sequence[tuple[Prompt, Message]]) -> list[Finding]:
    every = max(1, len(answers) // LOOKED_AT)
    found = check_lengths([len(encode(base, prompt, answer)) for prompt, answer in answers[::every]], longest)
    return [found] if found else []
