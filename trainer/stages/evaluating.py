"""Measures the candidate against anchor and champion, and writes what the gates will read."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.contracts.manifests import Evidence, GeneralText, Interval, SmokeCase
from infra.registry.cycles import CycleState
from trainer.cycle import Result
from trainer.data import Prompt, encode_prompt
from trainer.divergence import answer_kls, sequence_logprobs
from trainer.evaluate import length_ratio, mean_by_prompt, probe_drift, probe_rates, regrouped, samples
from trainer.general_text import compare
from trainer.lines import Encoded
from trainer.model import Base, load_adapter, remove_adapter
from trainer.progress import StageProgress
from trainer.publish import EVIDENCE, version_name, write_contract
from trainer.regression import Suites, check_suites
from trainer.sampling import Sampled
from trainer.stages.asking import write_queries
from trainer.stages.cases import LeftOut, all_suites
from trainer.stages.contest import Answers, Side, ask, champion_side
from trainer.stages.judging import judge_sides, reward_falls
from trainer.stages.material import Material
from trainer.stages.offline_votes import off_policy
from trainer.stages.reading import read_pieces

SMOKE_CASES = 4
SMOKE_TOKENS = 192  # most per case: a load is checked in milliseconds
MOST_SAMPLES = 50
STEPS = 6


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: two sides, the anchor's name on the base in memory, and what they are asked."""

    candidate: Side
    champion: Side
    anchor: str | None
    prompts: Sequence[Prompt]
    suites: Suites
    left_out: LeftOut


def evaluating(material: Material, part: Path, progress: StageProgress) -> Result:
    policy = material.holding.work.result(CycleState.POLICY) or {}
    version = version_name(material.row.alias, material.row.cycle_id, policy["sha256"])
    sft = material.holding.work.at(CycleState.SFT) / "adapter"
    suites, left_out = all_suites(material)
    subject = Subject(
        candidate=Side("candidate", version, material.holding.work.at(CycleState.POLICY) / "adapter"),
        champion=champion_side(material),
        anchor="anchor" if sft.is_dir() else None,
        prompts=gate_prompts(material),
        suites=suites,
        left_out=left_out,
    )
    candidate = ask(material, subject.candidate, subject.prompts, subject.suites.cases)
    progress(1, STEPS, {})
    champion = ask(material, subject.champion, subject.prompts, subject.suites.cases)
    progress(2, STEPS, {})
    files = {
        "candidate": subject.candidate.files,
        "champion": subject.champion.files,
        "anchor": sft if subject.anchor else None,
    }
    with loaded(material.base, files):
        evidence = _evidence(material, subject, (candidate, champion), progress)
    write_contract(part / EVIDENCE, evidence)
    queries = write_queries(material, part, (subject.candidate, subject.champion), gate_prompts(material, "train"))
    return {"queries": queries, "version": version, "champion": subject.champion.version, "metrics": _metrics(evidence)}


def gate_prompts(material: Material, split: str = "gate") -> list[Prompt]:
    """At most `evaluate_prompts` that leave room for an answer, the same ones for the same seed."""
    settings = material.settings
    return sorted(material.prompts(split), key=lambda prompt: _place(prompt, settings.seed))[
        : settings.evaluate_prompts
    ]


@contextmanager
def loaded(base: Base, files: dict[str, Path | None]) -> Iterator[None]:
    """Adapters on the base in memory for as long as they are measured."""
    present = {name: directory for name, directory in files.items() if directory is not None}
    for name, directory in present.items():
        load_adapter(base, name, directory)
    try:
        yield
    finally:
        for name in present:
            remove_adapter(base, name)


def _evidence(
    material: Material, subject: Subject, answers: tuple[Answers, Answers], progress: StageProgress
) -> Evidence:
    candidate, champion = answers
    texts = _texts(candidate.gate), _texts(champion.gate)
    kl_anchor, kl_champion = _kls(material.base, subject, candidate.gate)
    progress(3, STEPS, {"objective/kl": kl_anchor.value} if kl_anchor else {})
    judgement = judge_sides(material, subject.prompts, (candidate.gate, champion.gate))
    fallen = reward_falls(material, subject.champion.version)
    progress(4, STEPS, {})
    checked = check_suites(subject.suites, _texts(candidate.checks), _texts(champion.checks))
    reward = material.holding.work.result(CycleState.REWARD) or {}
    named = zip(
        smoke_sequences(material, candidate.gate), smoke_prompts(material, subject, candidate.gate), strict=True
    )
    smoke = [case for ids, prompt_id in named for case in smoke_cases(material.base, [ids], prompt_id)]
    progress(5, STEPS, {})
    return Evidence(
        version=subject.candidate.version,
        champion=subject.champion.version,
        smoke=smoke,
        kl_anchor=kl_anchor,
        kl_champion=kl_champion,
        judge_win_rate=judgement.win_rate,
        judge_controlled=judgement.controlled,
        judge_segments=judgement.segments or {},
        length_ratio=length_ratio(_lengths(candidate.gate), _lengths(champion.gate)),
        probes=probe_drift(*texts),
        probe_rates=probe_rates(*texts) if subject.prompts else {},
        reward_accuracy=reward.get("accuracy"),
        reward_metrics=reward.get("metrics", {}),
        reward_falls=fallen.segments,
        reward_falls_from=fallen.against,
        regressions=checked.regressions,
        regression_drop=checked.drop,
        regressions_left_out=subject.left_out,
        canaries=checked.canaries,
        safety=checked.safety,
        general_text=general_text(material, subject),
        off_policy=off_policy(material, subject.candidate, subject.champion.version),
        samples=samples(_asked(subject.prompts), texts, judgement.scores, most=MOST_SAMPLES),
    )


def general_text(material: Material, subject: Subject) -> GeneralText | None:
    """None without `trainer.general_text_file`."""
    pieces = read_pieces(material)
    return compare(material.base, pieces, subject.candidate.adapter, subject.champion.adapter) if pieces else None


def _kls(base: Base, subject: Subject, gate: Sequence[Sequence[Sampled]]) -> tuple[Interval | None, Interval | None]:
    references = list({subject.anchor, subject.champion.adapter})
    flat = [Encoded(answer.prompt_ids, answer.token_ids) for group in gate for answer in group]
    found = answer_kls(base, flat, policy=subject.candidate.adapter, references=references)
    to_anchor, to_champion = (
        mean_by_prompt(regrouped(found[name], gate)) for name in (subject.anchor, subject.champion.adapter)
    )
    return to_anchor, to_champion


def smoke_cases(base: Base, sequences: Sequence[Sequence[int]], prompt_id: str | None = None) -> list[SmokeCase]:
    """What each engine must reproduce: the candidate's log-probabilities of these tokens, in nats at temperature 1."""
    return [
        SmokeCase(token_ids=list(ids), logprobs=sequence_logprobs(base, ids, "candidate"), prompt_id=prompt_id)
        for ids in sequences
        if len(ids) > 1
    ]


def smoke_sequences(material: Material, gate: Sequence[Sequence[Sampled]]) -> list[list[int]]:
    """The ends of the candidate's own answers: an engine can compare only tokens that the candidate finds probable,
    and every layer of it matters to them."""
    answered = [[*group[0].prompt_ids, *group[0].token_ids] for group in gate[:SMOKE_CASES] if group]
    asked = [] if answered else gate_prompts(material, "train")[:SMOKE_CASES]
    sequences = answered or [encode_prompt(material.base.tokenizer, prompt) for prompt in asked]
    return [ids[-SMOKE_TOKENS:] for ids in sequences]


def smoke_prompts(material: Material, subject: Subject, gate: Sequence[Sequence[Sampled]]) -> list[str]:
    """Which prompt each of those sequences begins with, so that an erasure finds it."""
    answered = [p.prompt_id for p, group in zip(subject.prompts[:SMOKE_CASES], gate, strict=False) if group]
    return answered or [prompt.prompt_id for prompt in gate_prompts(material, "train")[:SMOKE_CASES]]


def _asked(prompts: Sequence[Prompt]) -> list[tuple[str, list[dict[str, Any]]]]:
    return [(prompt.prompt_id, list(prompt.messages)) for prompt in prompts]


def _texts(groups: Sequence[Sequence[Sampled]]) -> list[list[str]]:
    return [[answer.text for answer in group] for group in groups]


def _lengths(groups: Sequence[Sequence[Sampled]]) -> list[list[float]]:
    return [[float(len(answer.token_ids)) for answer in group] for group in groups]


def _place(prompt: Prompt, seed: int) -> str:
    return hashlib.sha256(f"{seed}\0{prompt.prompt_id}".encode()).hexdigest()


def _metrics(evidence: Evidence) -> dict[str, float]:
    """What the manifest and the report show of it."""
    intervals = {
        "objective/kl": evidence.kl_anchor,
        "kl_champion": evidence.kl_champion,
        "judge_win_rate": evidence.judge_win_rate,
        "judge_win_rate_controlled": evidence.judge_controlled,
        "length_ratio": evidence.length_ratio,
        "regression_drop": evidence.regression_drop,
        "reward_accuracy": evidence.reward_accuracy,
    }
    return {name: interval.value for name, interval in intervals.items() if interval is not None}
